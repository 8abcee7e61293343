"""Memory of what was loaded last, bounded by utterances."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class RecentlyUsed(Generic[Value]):
    """Keeps what was loaded for the shards that were used last.

    An error is raised and not kept, so that the next use loads again: a server that was
    away for a minute must not lose its shards for the rest of a training.

    Arguments
    ---------
    load : callable
        (root, name, utterances) -> value
    capacity : int
        Utterances of the shards that are kept; the last shard always is.

    Example
    -------
    >>> sizes = RecentlyUsed(lambda root, name, count: print("load", name), capacity=9)
    >>> for name in "aaba":
    ...     sizes.get("root", name, 5)
    load a
    load b
    load a
    """

    def __init__(self, load: Callable[[str, str, int], Value], capacity: int):
        self.load, self.capacity = load, capacity
        self._kept: OrderedDict[tuple[str, str, int], Value] = OrderedDict()

    def get(self, root: str, name: str, count: int) -> Value:
        """Return the value of a shard of ``count`` utterances."""
        key = root, name, count
        if key not in self._kept:
            self._kept[key] = self.load(*key)
        self._kept.move_to_end(key)
        while len(self._kept) > 1 and sum(key[2] for key in self._kept) > self.capacity:
            self._kept.popitem(last=False)
        return self._kept[key]
