"""Writes shards: a few large files, in lhotse's Shar format, hold many recordings.

    <folder>/index.json                  shards with their utterances and seconds
    <folder>/samples.npy, texts.npy      of every utterance: length, has a transcript
    <folder>/tables/000000.npy           where its utterances lie in the tar file
    <folder>/shar/cuts.000000.jsonl.gz   lhotse's cuts: transcript, speaker
    <folder>/shar/recording.000000.tar   FLAC of 16 bits, mono

``lhotse.CutSet.from_shar(in_dir=f"{folder}/shar")`` reads them, too.
"""

import gzip
import io
import json
import logging
import shutil
import tarfile
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile

from speechbrain_birq.checkpoints.files import flush, replacing, write
from speechbrain_birq.data.manifest import Utterance
from speechbrain_birq.errors import BadInput

logger = logging.getLogger(__name__)

# One row an utterance: bytes of its FLAC in the tar file, samples, has a transcript.
TABLE = np.dtype([("start", "u8"), ("size", "u4"), ("samples", "u4"), ("text", "?")])


# An utterance, of which ``wav`` and ``duration`` are unused, and its samples: (S,)
# float32 in [-1, 1], a tensor or an array.
Recording = tuple[Utterance, Any]


class ShardSummary(NamedTuple):
    """What a folder of shards holds after writing."""

    shards: int
    utterances: int
    seconds: float
    skipped: int  # in this call: empty, not finite or with a name that was there


def write_shards(
    recordings: Iterable[Recording],
    folder: str | Path,
    *,
    sample_rate: int = 16000,
    shard_hours: float = 1.0,
) -> ShardSummary:
    """Write recordings as shards; each shard is written atomically.

    Called again after a kill, or with more recordings, it keeps the shards that are
    finished and skips the utterances in them. Empty recordings, numbers that are not
    finite and second recordings of one name are named in the log and left out.

    Arguments
    ---------
    recordings : iterable
        (``Utterance``, samples), all at ``sample_rate``.
    folder : str or Path
        It is made if it does not exist.
    sample_rate : int
        Hz.
    shard_hours : float
        A shard is closed once it holds so much.

    Raises
    ------
    BadInput
        If lhotse is missing, nothing could be written, or the folder holds shards at
        another rate.
    """
    folder = _prepared(folder)
    shard: _Shard | None = None
    skipped: list[str] = []
    names = written_names(folder, sample_rate)
    try:
        for utterance, pcm in _new(recordings, names, skipped):
            if shard is None:
                name = f"{len(_tables(folder)):06d}"
                shard = _Shard(Path(folder), name, sample_rate)
            shard.add(utterance, pcm)
            if shard.seconds >= shard_hours * 3600:
                shard.finish()
                shard = None
        if shard is not None:
            shard.finish()
    finally:
        if shard is not None:
            shard.close()
    if skipped:
        logger.warning("skipped %d recordings", len(skipped))
    return write_index(folder, sample_rate)._replace(skipped=len(skipped))


def write_shard(
    recordings: Iterable[Recording],
    folder: str | Path,
    name: str,
    *,
    sample_rate: int = 16000,
) -> None:
    """Write recordings as one shard, atomically: ``has_shard`` is true afterwards.

    Call ``write_index`` after the last shard.

    Arguments
    ---------
    recordings : iterable
        As for ``write_shards``.
    folder : str or Path
        It is made if it does not exist.
    name : str
        Letters, digits, "-" and "_".
    sample_rate : int
        Hz.

    Raises
    ------
    BadInput
        If lhotse is missing.
    """
    folder = _prepared(folder)
    shard = _Shard(Path(folder), name, sample_rate)
    try:
        for utterance, pcm in _new(recordings, (), []):
            shard.add(utterance, pcm)
        shard.finish()
    finally:
        shard.close()


def has_shard(folder: str | Path, name: str) -> bool:
    """Return whether a shard was finished."""
    return _table(Path(folder), name).exists()


def _prepared(folder: str | Path) -> Path:
    find_lhotse()
    folder = Path(folder)
    shutil.rmtree(folder / "partial", ignore_errors=True)
    for name in ("partial", "tables", "shar"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    return folder


def _new(
    recordings: Iterable[Recording], finished: Collection[str], skipped: list[str]
) -> Iterator[tuple[Utterance, np.ndarray]]:
    """(utterance, samples (S,) int16) of those that can be written and are not yet."""
    seen = set(finished)
    for utterance, samples in recordings:
        if utterance.ID in finished:
            continue
        pcm = _as_pcm(samples)
        if pcm is None or utterance.ID in seen:
            reason = "no finite samples" if pcm is None else "its name was there before"
            logger.warning("skipped %s: %s", utterance.ID, reason)
            skipped.append(utterance.ID)
            continue
        seen.add(utterance.ID)
        yield utterance, pcm


def written_names(folder: str | Path, sample_rate: int = 16000) -> set[str]:
    """Return the names of utterances in finished shards, not to be decoded again.

    Raises
    ------
    BadInput
        If the shards have another rate.
    """
    names: set[str] = set()
    rate = sample_rate
    for table in _tables(Path(folder)):
        if len(np.load(table, mmap_mode="r")) == 0:
            continue
        with gzip.open(Path(folder) / "shar" / f"cuts.{table.stem}.jsonl.gz") as lines:
            for cut in map(json.loads, lines):
                names.add(cut["id"])
                rate = cut["recording"]["sampling_rate"]
        if rate != sample_rate:
            raise BadInput(
                f"{folder} holds shards at {rate} Hz, not {sample_rate} Hz: give "
                f"another folder, or delete it"
            )
    return names


def write_index(folder: str | Path, sample_rate: int = 16000) -> ShardSummary:
    """Sum up the finished shards for readers; shards without an utterance are left out.

    Raises
    ------
    BadInput
        If there is no utterance.
    """
    folder = Path(folder)
    tables = {path.stem: np.load(path) for path in _tables(folder)}
    tables = {name: table for name, table in tables.items() if len(table)}
    if not tables:
        raise BadInput(f"no recording for the shards in {folder}: give readable audio")
    shards = [
        {
            "name": name,
            "utterances": len(table),
            "seconds": int(table["samples"].sum(dtype=np.int64)) / sample_rate,
        }
        for name, table in tables.items()
    ]
    for file, column in (("samples.npy", "samples"), ("texts.npy", "text")):
        _save(
            folder / file, np.concatenate([table[column] for table in tables.values()])
        )
    index = {"sample_rate": sample_rate, "shards": shards}
    write(folder / "index.json", json.dumps(index, indent=1) + "\n")
    shutil.rmtree(folder / "partial", ignore_errors=True)
    seconds = sum(shard["seconds"] for shard in shards)
    return ShardSummary(len(shards), sum(map(len, tables.values())), seconds, 0)


def find_lhotse() -> None:
    """Import lhotse, which writes the shards.

    Raises
    ------
    BadInput
        If it is not installed.
    """
    try:
        import lhotse  # noqa: F401
    except ImportError as error:
        raise BadInput(
            'shards are written with lhotse: pip install "speechbrain_birq[large]"'
        ) from error


class _Shard:
    """One shard in the making, in ``<folder>/partial``."""

    def __init__(self, folder: Path, name: str, sample_rate: int):
        from lhotse.shar.writers import JsonlShardWriter, TarWriter

        self.folder, self.name, self.sample_rate = folder, name, sample_rate
        self.files = (f"recording.{self.name}.tar", f"cuts.{self.name}.jsonl.gz")
        tar, cuts = (str(folder / "partial" / file) for file in self.files)
        self.audio = TarWriter(tar, shard_size=None)
        self.cuts = JsonlShardWriter(cuts, shard_size=None)
        self.samples: list[int] = []
        self.texts: list[bool] = []
        self.seconds = 0.0

    def add(self, utterance, pcm):
        """Append one utterance; pcm (S,) int16."""
        stream = io.BytesIO()
        soundfile.write(stream, pcm, self.sample_rate, "PCM_16", format="FLAC")
        cut = _cut(utterance, len(pcm), self.sample_rate)
        recording = json.dumps(cut.recording.to_dict()).encode()
        self.audio.write(f"{utterance.ID}.flac", stream)
        self.audio.write(f"{utterance.ID}.json", io.BytesIO(recording), count=False)
        self.cuts.write(cut)
        self.samples.append(len(pcm))
        self.texts.append(bool(utterance.text))
        self.seconds += len(pcm) / self.sample_rate

    def close(self):
        self.audio.close()
        self.cuts.close()

    def finish(self) -> None:
        """Move the files to their places; the table comes last and makes it a shard."""
        self.close()
        table = np.zeros(len(self.samples), TABLE)
        table["samples"], table["text"] = self.samples, self.texts
        if self.samples:  # otherwise lhotse has made no file
            table["start"], table["size"] = self._moved()
        _save(_table(self.folder, self.name), table)

    def _moved(self):
        """Move audio and cuts; return where each FLAC starts, and its bytes."""
        partial, shar = self.folder / "partial", self.folder / "shar"
        with tarfile.open(partial / self.files[0]) as tar:
            audio = tar.getmembers()[::2]
        for file in self.files:
            flush(partial / file)
            (partial / file).replace(shar / file)
        flush(shar)
        return [m.offset_data for m in audio], [m.size for m in audio]


def _cut(utterance, num_samples, sample_rate):
    from lhotse import AudioSource, MonoCut, Recording, SupervisionSegment

    name, seconds = utterance.ID, num_samples / sample_rate
    source = AudioSource(type="shar", channels=[0], source="")
    recording = Recording(name, [source], sample_rate, num_samples, seconds)
    supervision = SupervisionSegment(
        name,
        name,
        start=0,
        duration=seconds,
        text=utterance.text or None,
        speaker=utterance.speaker or None,
    )
    return MonoCut(name, 0, seconds, 0, [supervision], recording=recording)


def _as_pcm(samples):
    """(S,) int16, or None if there is no sample or one is not finite."""
    samples = np.asarray(samples, dtype=np.float32)
    if samples.size == 0 or not np.isfinite(samples).all():
        return None
    # libsndfile would scale by 32767: audio of 16 bits must come back as it was.
    return np.clip(np.rint(samples * 32768), -32768, 32767).astype(np.int16)


def _tables(folder):
    return sorted((folder / "tables").glob("*.npy"))


def _table(folder, name):
    return folder / "tables" / f"{name}.npy"


def _save(path, array):
    with replacing(path) as partial, open(partial, "wb") as file:
        np.save(file, array)
