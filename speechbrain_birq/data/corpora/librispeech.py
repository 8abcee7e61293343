"""LibriSpeech's layout: <split>/<speaker>/<chapter>/<speaker>-<chapter>-<number>."""

import logging
from codecs import BOM_UTF8
from pathlib import Path

from speechbrain_birq.data.audio_checks import printable
from speechbrain_birq.data.corpora.completeness import (
    check_speakers,
    check_transcripts,
    is_published,
)
from speechbrain_birq.data.manifest import (
    AUDIO_SUFFIXES,
    Utterance,
    measure_all,
    some_of,
    write_manifest,
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
        If a folder is missing or holds no audio, a split is not below ``data_folder``,
        or LibriSpeech (with SPEAKERS.TXT beside the splits) was unpacked in part.
    """
    return {
        split: write_manifest(
            Path(manifest_folder) / f"{split}.csv", _joined(data_folder, split)
        )
        for split in splits
    }


def _joined(data_folder, split):
    """Utterances of one or several splits; of two with one name the first is taken."""
    found = {}
    for part in split.split("+"):
        if not part or ".." in Path(part).parts or Path(part).is_absolute():
            raise BadInput(
                f"the split {split!r} must name folders below {data_folder}, joined "
                f"by +"
            )
        for utterance in find_utterances(data_folder, part):
            if found.setdefault(utterance.ID, utterance) is not utterance:
                first = found[utterance.ID].wav
                _tell_same_name(utterance.wav, first)
    return list(found.values())


def _tell_same_name(path, first):
    logger.warning(
        "skipped %s: %s has the same name", printable(path), printable(first)
    )


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
            str(path.absolute()),
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
            _tell_same_name(path, named[path.stem])
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
        for line in _lines(path):
            utterance, *words = line.split()
            text = " ".join(words)
            if texts.setdefault(utterance, text) != text:
                logger.warning(
                    "%s: another text of %s is not used",
                    printable(path),
                    printable(utterance),
                )
    return texts


def _lines(path):
    """Lines of a transcript that are not blank, without NUL bytes."""
    try:
        data = path.read_bytes()
    except OSError as error:
        logger.warning("skipped %s: %s", printable(path), error.strerror)
        return []
    text = data.removeprefix(BOM_UTF8).decode("utf-8", errors="replace")
    if "\ufffd" in text or "\0" in text:
        logger.warning("%s is not UTF-8 text: save it as such", printable(path))
    # NUL: a csv reader before Python 3.11 takes none.
    lines = text.replace("\0", " ").replace("\r", "\n").split("\n")
    return [line for line in lines if line.strip()]


def _report_unmatched(folder, audio, texts):
    without_audio = sorted(texts.keys() - audio)
    without_text = sorted(name for name in audio if not texts.get(name))
    for names, what in (
        (without_audio, "transcripts without audio"),
        (without_text, "recordings without a transcript"),
    ):
        if names:
            shown = some_of(names)
            logger.warning("%s: %d %s: %s", folder, len(names), what, shown)
