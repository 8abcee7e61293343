"""Many files at a terminal: a bar, and a sentence for each file that fails."""

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

from tqdm import tqdm

from speechbrain_birq.errors import BadInput

if TYPE_CHECKING:
    from speechbrain_birq.inference import Outcome

Value = TypeVar("Value")


def for_each(
    files: Sequence[str],
    outcomes: Iterable["Outcome[Value]"],
    use: Callable[[str, Value], None],
) -> None:
    """Use what came of each file; name those that failed and continue.

    Arguments
    ---------
    files : sequence of str
    outcomes : iterable of Outcome
        In any order; ``index`` is the place in ``files``.
    use : callable
        Called with each file that could be used, and its value.

    Raises
    ------
    SystemExit
        With status 1, at the end, if any file failed.
    """
    failed = 0
    for outcome in tqdm(outcomes, total=len(files), unit=" files", disable=None):
        file = files[outcome.index]
        try:
            value = outcome.result()
        except BadInput as error:
            tqdm.write(f"error: {error}", file=sys.stderr)
            failed += 1
        else:
            use(file, value)
    end_with_status(failed, len(files))


def end_with_status(failed: int, total: int) -> None:
    """Say how many files failed and end with status 1, if any did."""
    if failed:
        sys.stdout.flush()
        print(f"error: {failed} of {total} files could not be used", file=sys.stderr)
        raise SystemExit(1)


def show(line: str) -> None:
    """Print a line of output above a bar."""
    tqdm.write(line, file=sys.stdout)
