"""LibriSpeech's layout: <split>/<speaker>/<chapter>/<speaker>-<chapter>-<number>."""

import logging
from pathlib import Path

from speechbrain_birq.data.manifest import (
    AUDIO_SUFFIXES,
    Utterance,
    measure_all,
    write_manifest,
)
from speechbrain_birq.data.unpacked import (
    check_speakers,
    check_transcripts,
    is_published,
)
from speechbrain_birq.errors import BadInput

logger = logging.getLogger(__name__)


def prepare_librispeech(data_folder, splits, manifest_folder) -> dict[str, Path]:
    """Write one manifest a split; audio in any of flac, wav, opus, ogg.

    Unreadable files, transcripts without audio and audio without a transcript are
    counted and named in the log. Audio without a transcript keeps an empty text: good
    for pretraining, left out of fine-tuning.

    Arguments
    ---------
    data_folder : str or Path
        Holds the splits.
    splits : list
        Names of folders, "+" joins several into one: "train-clean-100+train-other-500".
    manifest_folder : str or Path
        Where the CSV files go.

    Returns
    -------
    dict
        split -> manifest

    Raises
    ------
    BadInput
        If a folder is missing or holds no audio, or LibriSpeech (with SPEAKERS.TXT
        beside the splits) was unpacked in part.
    """
    return {
        split: write_manifest(
            Path(manifest_folder) / f"{split}.csv",
            [
                u
                for part in split.split("+")
                for u in find_utterances(data_folder, part)
            ],
        )
        for split in splits
    }


def find_utterances(data_folder, split) -> list[Utterance]:
    """All readable utterances of one split, sorted by name.

    Raises
    ------
    BadInput
        If the folder is missing or holds no readable audio.
    """
    folder = Path(data_folder) / split
    if not folder.is_dir():
        raise BadInput(_missing(Path(data_folder), split))
    check_speakers(data_folder, split)
    texts = _transcripts(folder)
    paths = _audio_files(folder)
    if is_published(data_folder):
        check_transcripts(folder, {path.stem for path in paths}, texts)
    durations = measure_all(paths)
    if not durations:
        raise BadInput(
            f"no readable audio ({', '.join(AUDIO_SUFFIXES)}) in {folder}: expected "
            f"{split}/<speaker>/<chapter>/<speaker>-<chapter>-<number>.flac"
        )
    _report_unmatched(folder, {path.stem for path in paths}, texts)
    return [
        Utterance(
            path.stem,
            round(duration, 4),
            str(path.resolve()),
            path.stem.split("-")[0],
            texts.get(path.stem, ""),
        )
        for path, duration in durations.items()
    ]


def _audio_files(folder):
    """Audio files by name; of two with one name (a.flac, a.wav) the first is taken."""
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES)
    named = {}
    for path in paths:
        if named.setdefault(path.stem, path) != path:
            logger.warning("skipped %s: %s has the same name", path, named[path.stem])
    return list(named.values())


def _missing(data_folder, split):
    if not data_folder.is_dir():
        return f"data folder {data_folder} does not exist: give --data_folder"
    there = sorted(p.name for p in data_folder.iterdir() if p.is_dir())
    return (
        f"no split {split!r} in {data_folder} (it has {', '.join(there) or 'none'}): "
        f"give the folder above the splits as --data_folder, or other splits"
    )


def _transcripts(folder):
    texts = {}
    for path in sorted(folder.rglob("*.trans.txt")):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            utterance, _, text = line.strip().partition(" ")
            if utterance:
                texts[utterance] = " ".join(text.split())
    return texts


def _report_unmatched(folder, audio, texts):
    without_audio = sorted(texts.keys() - audio)
    without_text = sorted(name for name in audio if not texts.get(name))
    for names, what in (
        (without_audio, "transcripts without audio"),
        (without_text, "recordings without a transcript"),
    ):
        if names:
            shown = ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")
            logger.warning("%s: %d %s: %s", folder, len(names), what, shown)
