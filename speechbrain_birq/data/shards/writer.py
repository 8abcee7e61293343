"""Writes shards: a few large files, in lhotse's Shar format, for millions of small.

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
import os
import shutil
import tarfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from speechbrain_birq.errors import BadInput

logger = logging.getLogger(__name__)

# One row an utterance: bytes of its FLAC in the tar file, samples, has a transcript.
TABLE = np.dtype([("start", "u8"), ("size", "u4"), ("samples", "u4"), ("text", "?")])


class ShardSummary(NamedTuple):
    """What a folder of shards holds after writing."""

    shards: int
    utterances: int
    seconds: float
    skipped: int  # in this call: empty, not finite or with a name that was there


def write_shards(
    recordings, folder, *, sample_rate=16000, shard_hours=1.0
) -> ShardSummary:
    """Write recordings as shards; each appears whole or not at all.

    Called again after a kill, or with more recordings, it keeps the shards that are
    finished and skips the utterances in them. Empty recordings, numbers that are not
    finite and second recordings of one name are named in the log and left out.

    Arguments
    ---------
    recordings : iterable
        Of (``Utterance``, samples); samples (S,) float32 in [-1, 1], a tensor or an
        array, at ``sample_rate``. ``wav`` and ``duration`` of the utterance are unused.
    folder : str or Path
    sample_rate : int
        Hz.
    shard_hours : float
        A shard is closed once it holds so much.

    Returns
    -------
    ShardSummary

    Raises
    ------
    BadInput
        If lhotse is missing, nothing could be written, or the folder holds shards at
        another rate.
    """
    find_lhotse()
    folder = Path(folder)
    shutil.rmtree(folder / "partial", ignore_errors=True)
    for name in ("partial", "tables", "shar"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    shard, skipped = None, []
    names = written_names(folder, sample_rate)
    try:
        for utterance, pcm in _new(recordings, names, skipped):
            shard = shard or _Shard(folder, len(_tables(folder)), sample_rate)
            shard.add(utterance, pcm)
            if shard.seconds >= shard_hours * 3600:
                shard = shard.finish()
        shard = shard and shard.finish()
    finally:
        if shard:
            shard.close()
    if skipped:
        logger.warning("skipped %d recordings", len(skipped))
    return write_index(folder, sample_rate)._replace(skipped=len(skipped))


def _new(recordings, finished, skipped):
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


def written_names(folder, sample_rate=16000) -> set[str]:
    """Names of the utterances in finished shards: they need not be decoded again.

    Raises
    ------
    BadInput
        If the shards have another rate.
    """
    names = set()
    for table in _tables(Path(folder)):
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


def write_index(folder, sample_rate) -> ShardSummary:
    """Sum up the finished shards for readers.

    Raises
    ------
    BadInput
        If there is none.
    """
    folder = Path(folder)
    paths = _tables(folder)
    if not paths:
        raise BadInput(f"no recording for the shards in {folder}: give readable audio")
    tables = [np.load(path) for path in paths]
    shards = [
        {
            "name": path.stem,
            "utterances": len(table),
            "seconds": int(table["samples"].sum(dtype=np.int64)) / sample_rate,
        }
        for path, table in zip(paths, tables, strict=True)
    ]
    for name, column in (("samples.npy", "samples"), ("texts.npy", "text")):
        whole = np.concatenate([table[column] for table in tables])
        _save_whole(folder / name, whole)
    index = {"sample_rate": sample_rate, "shards": shards}
    partial = folder / "index.json.partial"
    partial.write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    partial.replace(folder / "index.json")
    (folder / "partial").rmdir()
    seconds = sum(shard["seconds"] for shard in shards)
    return ShardSummary(len(shards), sum(map(len, tables)), seconds, 0)


def find_lhotse() -> None:
    """Refuse to go on without lhotse.

    Raises
    ------
    BadInput
    """
    try:
        import lhotse  # noqa: F401
    except ImportError as error:
        raise BadInput(
            'shards are written with lhotse: pip install "speechbrain_birq[large]"'
        ) from error


class _Shard:
    """One shard in the making, in ``<folder>/partial``."""

    def __init__(self, folder, number, sample_rate):
        from lhotse.shar.writers import JsonlShardWriter, TarWriter

        self.folder, self.name, self.sample_rate = folder, f"{number:06d}", sample_rate
        self.files = (f"recording.{self.name}.tar", f"cuts.{self.name}.jsonl.gz")
        tar, cuts = (str(folder / "partial" / file) for file in self.files)
        self.audio = TarWriter(tar, shard_size=None)
        self.cuts = JsonlShardWriter(cuts, shard_size=None)
        self.samples, self.texts, self.seconds = [], [], 0.0

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

    def finish(self):
        """Move the files to their places; the table comes last and makes it a shard."""
        self.close()
        partial, shar = self.folder / "partial", self.folder / "shar"
        table = np.zeros(len(self.samples), TABLE)
        table["samples"], table["text"] = self.samples, self.texts
        with tarfile.open(partial / self.files[0]) as tar:
            audio = tar.getmembers()[::2]
        table["start"] = [member.offset_data for member in audio]
        table["size"] = [member.size for member in audio]
        for file in self.files:
            _flushed(partial / file).replace(shar / file)
        _save_whole(self.folder / "tables" / f"{self.name}.npy", table)


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


def _save_whole(path, array):
    partial = path.with_suffix(".partial")
    with open(partial, "wb") as file:
        np.save(file, array)
    _flushed(partial).replace(path)


def _flushed(path):
    """The file, on the disk and not only on its way there."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
    return path
