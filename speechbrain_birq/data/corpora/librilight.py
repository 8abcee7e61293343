"""Libri-light's limited-resource sets: 10 minutes, 1 hour and 10 hours of LibriSpeech.

The archive librispeech_finetuning.tgz (``URL``), unpacked beside LibriSpeech's splits:

    <data_folder>/librispeech_finetuning/1h/{0..5}/{clean,other}/<speaker>/<chapter>/
    <data_folder>/librispeech_finetuning/9h/{clean,other}/<speaker>/<chapter>/

Each of the six folders of ``1h`` holds 10 minutes; 10 hours are ``1h`` and ``9h``.
"""

from pathlib import Path

from speechbrain_birq.data.corpora.completeness import check_transcripts
from speechbrain_birq.data.corpora.forms import write_manifests
from speechbrain_birq.data.corpora.librispeech import (
    Found,
    find_utterances,
    measured,
)
from speechbrain_birq.data.manifest import Utterance
from speechbrain_birq.errors import BadInput

URL = "https://dl.fbaipublicfiles.com/librilight/data/librispeech_finetuning.tgz"
FOLDER = "librispeech_finetuning"
ONE_HOUR = [f"1h/{number}" for number in range(6)]
PARTS = {
    "librilight-10min": ONE_HOUR[:1],
    "librilight-1h": ONE_HOUR,
    "librilight-10h": [*ONE_HOUR, "9h"],
}


def prepare_librilight(
    data_folder: str | Path | None, splits: list[str], manifest_folder: str | Path
) -> dict[str, Path]:
    """Write a manifest of each split of LibriSpeech or of Libri-light's limited sets.

    Arguments
    ---------
    data_folder : str or Path
        Holds LibriSpeech's splits and ``librispeech_finetuning``.
    splits : list
        ``librilight-10min``, ``librilight-1h``, ``librilight-10h``; any other name is
        a folder, as for ``prepare_librispeech``. "+" joins several.
    manifest_folder : str or Path
        Where the CSV files go.

    Returns
    -------
    dict
        split -> manifest

    Raises
    ------
    BadInput
        As ``prepare_librispeech``; or if the archive is missing or was unpacked in
        part.
    """
    return write_manifests(data_folder, splits, manifest_folder, find=_utterances)


def _utterances(data_folder: Path, split: str) -> list[Utterance]:
    if split not in PARTS:
        if split.startswith("librilight"):
            raise BadInput(f"no split {split!r}: there are {', '.join(PARTS)}")
        return find_utterances(data_folder, split)
    folder = data_folder / FOLDER
    if not folder.is_dir():
        raise BadInput(
            f"no folder {folder}: unpack {URL} in {data_folder} (0.6 GB, beside "
            f"LibriSpeech's own splits)"
        )
    found = [
        _complete(folder / part / kind)
        for part in PARTS[split]
        for kind in ("clean", "other")
    ]
    return [utterance for part in found for utterance in measured(part)]


def _complete(folder):
    found = Found.below(folder)
    if not found.audio:
        raise BadInput(f"no audio in {folder}: unpack {URL} again")
    if not found.texts:
        raise BadInput(f"no transcripts in {folder}: unpack {URL} again")
    check_transcripts(folder, found.audio, found.texts)
    return found
