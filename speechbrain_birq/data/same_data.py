"""Do all ranks read the same data?"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from speechbrain_birq.data.shards.reader import Shards
from speechbrain_birq.data.split_places import is_elsewhere
from speechbrain_birq.distributed import gathered
from speechbrain_birq.errors import BadInput


def check_same_data(
    data_folder: str | Path | None,
    listed: Iterable[str],
    sharded: Mapping[str, Shards],
) -> None:
    """Refuse ranks that would read different data.

    Every machine may have a copy of shards; manifests hold the first one's paths.

    Arguments
    ---------
    data_folder : str or Path or None
        This rank's.
    listed : iterable of str
        Splits that have a manifest.
    sharded : mapping
        split -> its shards here

    Raises
    ------
    BadInput
        On every rank, naming the split or both folders.
    """
    for rank, theirs in enumerate(gathered(sorted(sharded))):
        for split in {*sharded} ^ {*theirs}:
            raise BadInput(
                f"the split {split!r} is shards here or on rank {rank}, but not on "
                f"both: copy its shards to every machine"
            )
    folders = gathered(str(data_folder))
    others = sorted(set(folders) - {folders[0]})
    if others and not all(is_elsewhere(split) for split in listed):
        raise BadInput(
            f"data_folder is {folders[0]} on the first rank, {others[0]} on another: "
            f"give files the same path on every machine, or write shards"
        )
    for split, shards in sharded.items():
        if len(set(gathered(shards.fingerprint()))) > 1:
            raise BadInput(
                f"the shards of {split!r} differ between the ranks: copy them to every "
                f"machine again"
            )
