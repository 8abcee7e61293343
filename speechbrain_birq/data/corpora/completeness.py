"""Whether a corpus is complete, or its archive was unpacked in part."""

from collections.abc import Collection
from pathlib import Path

from speechbrain_birq.errors import BadInput

AGAIN = "unpack the archive again, or copy the rest"
LIST = "SPEAKERS.TXT"  # only LibriSpeech has it: other corpora may lack what they like


def is_published(data_folder: str | Path) -> bool:
    """Return whether a folder of splits is LibriSpeech itself."""
    return (Path(data_folder) / LIST).is_file()


def check_speakers(data_folder: str | Path, split: str) -> None:
    """Compare a split with LibriSpeech's own SPEAKERS.TXT, if that lies beside it.

    Raises
    ------
    BadInput
        If speakers of the split have no folder.
    """
    if not is_published(data_folder):
        return
    path = Path(data_folder) / LIST
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    rows = [[field.strip() for field in line.split("|")] for line in lines]
    listed = [row[0] for row in rows if len(row) > 2 and row[2] == split]
    missing = [s for s in listed if not (Path(data_folder) / split / s).is_dir()]
    if missing:
        raise BadInput(
            f"{Path(data_folder) / split} is not complete: {len(missing)} of the "
            f"{len(listed)} speakers in {path} have no folder, for example "
            f"{missing[0]}: {AGAIN}"
        )


def check_transcripts(
    folder: str | Path, audio: Collection[str], texts: Collection[str]
) -> None:
    """Refuse a published split that has transcripts without their audio.

    Arguments
    ---------
    folder : str or Path
        For the message.
    audio, texts : collection
        Names of utterances.

    Raises
    ------
    BadInput
    """
    missing = sorted(set(texts) - set(audio))
    if missing:
        raise BadInput(
            f"{folder} is not complete: {len(missing)} of its {len(texts)} transcripts "
            f"have no audio, for example {missing[0]}: {AGAIN}"
        )
