"""Record of the corpus in every checkpoint: what has changed when a run resumes."""

import json
import logging
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from speechbrain.utils.checkpoints import (
    mark_as_loader,
    mark_as_saver,
    register_checkpoint_hooks,
)
from speechbrain.utils.distributed import if_main_process

from speechbrain_birq.checkpoints.plain_files import corruption_named, read_json
from speechbrain_birq.data.headers import remembered
from speechbrain_birq.data.manifest import Utterance, read_manifest, some_of
from speechbrain_birq.data.shards.reader import Shards

logger = logging.getLogger(__name__)

SAMPLE = 4096  # bytes from the middle of a file that its checksum covers
RECORD_BYTES = 2**28
SPLIT_BYTES = 2**26  # a million utterances; of a larger split only a summary is kept
ADVICE = "delete this checkpoint"


@register_checkpoint_hooks
class CorpusRecord:
    """Checksums of the utterances of some splits, and the size of batches.

    A resume is exact only if these are as they were. What differs is logged, with the
    names of utterances (of shards, if the split has these). A split of millions of
    utterances has one checksum of all, because every checkpoint holds the record.

    Arguments
    ---------
    manifests : mapping
        split -> ``Shards`` or path of a manifest
    batch_seconds : float
    """

    def __init__(
        self, manifests: Mapping[str, Shards | Path], batch_seconds: float
    ) -> None:
        self.batch_seconds = batch_seconds
        self.compared = False
        # Rank 0 alone saves and compares.
        found = manifests if if_main_process() else {}
        self.splits = {
            split: _bounded(checksums(where)) for split, where in found.items()
        }

    @mark_as_saver
    def save(self, path: str | Path) -> None:
        """Write the record of this start."""
        record = {"batch_seconds": self.batch_seconds, "splits": self.splits}
        Path(path).write_text(json.dumps(record), encoding="utf-8")

    @mark_as_loader
    def load(self, path: str | Path, end_of_epoch: bool) -> None:
        """Compare with the record of a checkpoint, once; log what differs."""
        if self.compared or not if_main_process():
            return
        self.compared = True
        if Path(path).stat().st_size > RECORD_BYTES:  # of an earlier version
            logger.warning(
                "%s is too large: whether the corpus has changed is not known; the run "
                "resumes",
                path,
            )
            return
        record = read_json(path, ADVICE, max_bytes=RECORD_BYTES)
        with corruption_named(path, ADVICE):
            before, splits = float(record["batch_seconds"]), record["splits"]
            changes = {
                split: _changes(splits[split], now)
                for split, now in self.splits.items()
                if split in splits
            }
        for split, change in changes.items():
            if change:
                logger.warning(
                    "the split %r has changed since the checkpoint: %s; the run "
                    "resumes, but not exactly",
                    *(split, change),
                )
        if before != self.batch_seconds and not end_of_epoch:
            logger.warning(
                "batch_seconds was %g, now it is %g: the rest of this epoch has other "
                "batches, so that some utterances may be heard twice or not at all; "
                "the run resumes, but not exactly",
                *(before, self.batch_seconds),
            )


def _bounded(found: dict[str, int]) -> dict[str, int] | list[int]:
    """The checksums of a split, or their summary if they are too many for a record."""
    return found if len(json.dumps(found)) <= SPLIT_BYTES else _summary(found)


def _summary(found: dict[str, int] | list[int]) -> list[int]:
    """[number of utterances, checksum of all]"""
    if not isinstance(found, dict):
        return found
    sums = (zlib.crc32(f"{name}\t{value}".encode()) for name, value in found.items())
    return [len(found), sum(sums)]


def _changes(before: Any, now: dict[str, int] | list[int]) -> str:
    if isinstance(before, list) or isinstance(now, list):
        (count, _), (count_now, _) = then, present = _summary(before), _summary(now)
        what = f"it had {count:,} utterances and has {count_now:,}"
        return what if then != present else ""
    before = dict(before)
    kinds = {
        "removed": sorted(before.keys() - now.keys()),
        "added": sorted(now.keys() - before.keys()),
        "replaced": sorted(
            n for n in now.keys() & before.keys() if now[n] != before[n]
        ),
    }
    return ", ".join(
        f"{len(names)} {kind} ({some_of(names)})"
        for kind, names in kinds.items()
        if names
    )


def checksums(where: Shards | str | Path) -> dict[str, int]:
    """Return utterance -> checksum of a manifest, or shard -> checksum of shards.

    The checksum of an utterance covers its length, its transcript, the size of its file
    and ``SAMPLE`` bytes of it, but not its folder, because a corpus may be moved. That
    of a shard covers the lengths of its utterances.
    """
    if isinstance(where, Shards):
        ends = zip(where.first, where.first[1:], strict=False)
        return {
            f"{root}/{name}": zlib.crc32(where.samples[start:end].tobytes())
            for (root, name), (start, end) in zip(where.places, ends, strict=True)
        }
    rows = read_manifest(where)
    samples, _ = remembered("samples", [r.wav for r in rows], _sample, _is_checksum)
    # A file that cannot be read is named where it would be used.
    return {row.ID: _checksum(row, *samples.get(row.wav, (-1, 0, 0))) for row in rows}


def _sample(path, status):
    """Checksum of the middle of a file."""
    with open(path, "rb") as file:
        file.seek(max(0, status.st_size - SAMPLE) // 2)
        return zlib.crc32(file.read(SAMPLE))


def _is_checksum(number):
    return 0 <= number < 2**32


def _checksum(row: Utterance, size: int, changed: int, sample: int) -> int:
    """Checksum of a text that is followed by a sample, from that of the sample."""
    text = zlib.crc32(f"{row.duration}\t{size}\t{row.text}".encode())
    # crc32(sample, text), without the sample: CRC-32 is linear in what it covers.
    zeros = bytes(min(max(0, size), SAMPLE))
    return sample ^ zlib.crc32(zeros, text) ^ zlib.crc32(zeros)
