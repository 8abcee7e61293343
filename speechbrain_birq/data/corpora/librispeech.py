"""LibriSpeech's layout: <split>/<speaker>/<chapter>/<speaker>-<chapter>-<number>."""

import logging
import os
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from speechbrain_birq.data.audio_checks import printable
from speechbrain_birq.data.corpora.completeness import (
    check_speakers,
    check_transcripts,
    is_published,
)
from speechbrain_birq.data.corpora.forms import log_same_name, write_manifests
from speechbrain_birq.data.files_below import files_below
from speechbrain_birq.data.formats import AUDIO_SUFFIXES, OTHER_SUFFIXES, recordings
from speechbrain_birq.data.headers import measure_all
from speechbrain_birq.data.manifest import Utterance, some_of
from speechbrain_birq.errors import BadInput

logger = logging.getLogger(__name__)

TRANSCRIPTS = ".trans.txt"


def prepare_librispeech(
    data_folder: str | Path | None, splits: list[str], manifest_folder: str | Path
) -> dict[str, Path]:
    """Write one manifest for each split; audio is any of ``AUDIO_SUFFIXES``.

    Unreadable files, transcripts without audio and audio without a transcript are
    counted and named in the log. Audio without a transcript keeps an empty text:
    pretraining uses it, fine-tuning skips it.

    Arguments
    ---------
    data_folder : str or Path, optional
        Holds the splits that are not paths.
    splits : list
        Names of folders, "+" joins several into one: "train-clean-100+train-other-500".
        A table or a path is used as it is.
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
    return write_manifests(data_folder, splits, manifest_folder, find=find_utterances)


def find_utterances(data_folder: str | Path, split: str) -> list[Utterance]:
    """Find all readable utterances of one split, sorted by path.

    An utterance is called as its file; one whose name is in several folders, as its
    path below the split, without suffix.

    Raises
    ------
    BadInput
        If the folder is missing or holds no readable audio.
    """
    folder = Path(data_folder) / split
    if not folder.is_dir():
        raise BadInput(_missing(Path(data_folder), split))
    check_speakers(data_folder, split)
    found = Found.below(folder)
    if is_published(data_folder):
        check_transcripts(folder, found.audio, found.texts)
    return measured(found)


class Found(NamedTuple):
    """What lies below a folder, not yet opened."""

    folder: Path
    audio: dict[str, Path]  # utterance -> its file, in the order of paths
    texts: dict[str, str]  # utterance -> transcript

    @classmethod
    def below(cls, folder: Path) -> "Found":
        """Look for audio and transcripts at any depth."""
        endings = (*AUDIO_SUFFIXES, *OTHER_SUFFIXES, TRANSCRIPTS)
        found = files_below(folder, endings)
        texts = [path for path in found if path.name.lower().endswith(TRANSCRIPTS)]
        named = _named(folder, recordings(folder, found))
        return cls(folder, named, _transcripts(folder, texts, named))


def measured(found: Found) -> list[Utterance]:
    """Read the headers; log what is unreadable, and what lacks audio or a transcript.

    Raises
    ------
    BadInput
        If no audio is readable.
    """
    durations = measure_all(list(found.audio.values()))
    if not durations:
        raise BadInput(
            f"no readable audio ({', '.join(AUDIO_SUFFIXES)}) in {found.folder}: "
            f"expected <speaker>/<chapter>/<speaker>-<chapter>-<number>.flac"
        )
    _log_unmatched(found)
    return [
        Utterance(
            name,
            round(durations[path], 4),
            str(path.absolute()),
            _speaker(name),
            found.texts.get(name, ""),
        )
        for name, path in found.audio.items()
        if path in durations
    ]


def _speaker(name):
    """What is before the first "-"; equal names in two folders are two speakers."""
    folder, stem = os.path.split(name)
    return os.path.join(folder, stem.split("-")[0])


def _named(folder: Path, paths: Sequence[Path]) -> dict[str, Path]:
    """Name audio files; if a folder has a.flac and a.wav, take a.flac.

    A name that several folders have is told apart by the path. It is the same whatever
    else can be read, because a resumed run and stored labels need it again.
    """
    first: dict[str, Path] = {}
    for path in paths:
        place = _place(path)
        other = first.setdefault(place, path)
        if other != path:
            first[place], worse = sorted((other, path), key=_preference)
            log_same_name(worse, first[place])
    names = [os.path.basename(place) for place in first]
    count = Counter(names)
    return {
        name if count[name] == 1 else _below(folder, place): path
        for name, (place, path) in zip(names, first.items(), strict=True)
    }


def _place(path):
    """A path without suffix, as text: a corpus has a million of them."""
    return os.path.splitext(path)[0]


def _preference(path):
    return AUDIO_SUFFIXES.index(path.suffix.lower())


def _below(folder, place):
    return os.path.relpath(place, folder)


def _missing(data_folder, split):
    if not data_folder.is_dir():
        return f"data folder {data_folder} does not exist: give --data_folder"
    folders = [path.name for path in data_folder.iterdir() if path.is_dir()]
    there = ", ".join(sorted(name for name in folders if not name.startswith(".")))
    return (
        f"no split {split!r} in {data_folder} (it has {there or 'none'}): "
        f"give the folder above the splits as --data_folder, or other splits"
    )


def _transcripts(
    folder: Path, paths: Sequence[Path], audio: Mapping[str, Path]
) -> dict[str, str]:
    """Utterance -> text; a text without audio keeps the name in its line.

    A name that several folders have means the recording in the transcript's folder. A
    path means one below that folder.
    """
    several = {os.path.basename(name) for name in audio if "/" in name}
    texts: dict[str, str] = {}
    for path in paths:
        for utterance, text in spoken_lines(path):
            if utterance in several or "/" in utterance:
                place = path.parent / utterance
                alone = audio.get(place.name)
                if alone and _place(alone) == str(place):
                    utterance = place.name
                else:
                    utterance = _below(folder, place)
            if texts.setdefault(utterance, text) != text:
                logger.warning(
                    "%s: another text of %s is not used",
                    printable(path),
                    printable(utterance),
                )
    return texts


def spoken_lines(path: Path) -> list[tuple[str, str]]:
    """Read a ``trans.txt``: name and text of each line, with single spaces.

    A file that cannot be opened is named in the log, and so is one that is not UTF-8.
    """
    lines = (line.split() for line in _lines(path))
    return [(name, " ".join(words)) for name, *words in filter(None, lines)]


def _lines(path):
    try:
        data = path.read_bytes()
    except OSError as error:
        logger.warning("skipped %s: %s", printable(path), error.strerror)
        return []
    text = data.removeprefix(BOM_UTF8).decode("utf-8", errors="replace")
    if "\ufffd" in text or "\0" in text:
        logger.warning("%s is not UTF-8 text: save it as such", printable(path))
    # Before Python 3.11, csv readers refuse NUL bytes.
    return text.replace("\0", " ").replace("\r", "\n").split("\n")


def _log_unmatched(found):
    without_audio = sorted(found.texts.keys() - found.audio.keys())
    without_text = sorted(name for name in found.audio if not found.texts.get(name))
    for names, what in (
        (without_audio, "transcripts without audio"),
        (without_text, "recordings without a transcript"),
    ):
        if names:
            shown = some_of(names)
            logger.warning("%s: %d %s: %s", found.folder, len(names), what, shown)
