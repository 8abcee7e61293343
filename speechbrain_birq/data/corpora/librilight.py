"""Libri-light's limited-resource sets: 10 minutes, 1 hour and 10 hours of LibriSpeech.

The archive librispeech_finetuning.tgz (``URL``), unpacked beside LibriSpeech's splits:

    <data_folder>/librispeech_finetuning/1h/{0..5}/{clean,other}/<speaker>/<chapter>/
    <data_folder>/librispeech_finetuning/9h/{clean,other}/<speaker>/<chapter>/

Each of the six folders of ``1h`` holds 10 minutes; 10 hours are ``1h`` and ``9h``.
"""

from pathlib import Path

from speechbrain_birq.data.corpora.completeness import check_transcripts
from speechbrain_birq.data.corpora.librispeech import find_utterances
from speechbrain_birq.data.manifest import AUDIO_SUFFIXES, write_manifest
from speechbrain_birq.errors import BadInput

URL = "https://dl.fbaipublicfiles.com/librilight/data/librispeech_finetuning.tgz"
FOLDER = "librispeech_finetuning"
ONE_HOUR = [f"1h/{number}" for number in range(6)]
PARTS = {
    "librilight-10min": ONE_HOUR[:1],
    "librilight-1h": ONE_HOUR,
    "librilight-10h": [*ONE_HOUR, "9h"],
}


def prepare_librilight(data_folder, splits, manifest_folder) -> dict[str, Path]:
    """Write one manifest a split, of LibriSpeech or of Libri-light's limited sets.

    Arguments
    ---------
    data_folder : str or Path
        Holds LibriSpeech's splits and ``librispeech_finetuning``.
    splits : list
        ``librilight-10min``, ``librilight-1h``, ``librilight-10h``; any other name is
        a folder, as for ``prepare_librispeech``. "+" joins several.
    manifest_folder : str or Path

    Returns
    -------
    dict
        split -> manifest

    Raises
    ------
    BadInput
        If the archive is missing or was unpacked in part.
    """
    return {
        split: write_manifest(
            Path(manifest_folder) / f"{split}.csv",
            [u for part in split.split("+") for u in _utterances(data_folder, part)],
        )
        for split in splits
    }


def _utterances(data_folder, split):
    if split not in PARTS:
        if split.startswith("librilight"):
            raise BadInput(f"no split {split!r}: there are {', '.join(PARTS)}")
        return find_utterances(data_folder, split)
    folder = Path(data_folder) / FOLDER
    if not folder.is_dir():
        raise BadInput(
            f"no folder {folder}: unpack {URL} in {data_folder} (0.6 GB, beside "
            f"LibriSpeech's own splits)"
        )
    for part in PARTS[split]:
        _check_whole(folder, part)
    return [u for part in PARTS[split] for u in find_utterances(folder, part)]


def _check_whole(folder, part):
    for kind in ("clean", "other"):
        place = folder / part / kind
        names = {p.stem for p in place.rglob("*") if p.suffix in AUDIO_SUFFIXES}
        if not names:
            raise BadInput(f"no audio in {place}: unpack {URL} again")
        texts = {
            line.split(maxsplit=1)[0]
            for path in place.rglob("*.trans.txt")
            for line in path.read_text(encoding="utf-8").splitlines()
            if line.strip()
        }
        if not texts:
            raise BadInput(f"no transcripts in {place}: unpack {URL} again")
        check_transcripts(place, names, texts)
