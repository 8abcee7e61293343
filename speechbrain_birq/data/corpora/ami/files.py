"""AMI as it was published: which files must be there, and whether they are complete."""

import logging
import re
import shutil
import struct
import tempfile
import xml.etree.ElementTree as ET
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from speechbrain_birq.data.files_below import files_below
from speechbrain_birq.errors import BadInput

VERSION = "ami_public_manual_1.6.2"
URL = f"http://groups.inf.ed.ac.uk/ami/AMICorpusAnnotations/{VERSION}.zip"
# The corpus has no Array1-01.wav of these; Kaldi's recipe leaves them out of sdm, too.
WITHOUT_ARRAY = ("IS1003b", "IS1007d")

logger = logging.getLogger(__name__)


def find_audio(
    data_folder: Path, mic: str, meetings: Sequence[str], *, downloaded: bool = False
) -> dict[str, dict[int, Path]]:
    """Find the recordings of each meeting.

    Arguments
    ---------
    data_folder : Path
    mic : str
        ihm (a headset for each speaker) or sdm (channel 0).
    meetings : sequence of str
        Those of ``WITHOUT_ARRAY`` may lack the recording of sdm.
    downloaded : bool
        Whether what was missing has been fetched, as far as the server has it.

    Returns
    -------
    dict
        meeting -> {channel: file}

    Raises
    ------
    BadInput
        If a meeting has no recording, or one that is shorter than its header says.
    """
    if not data_folder.is_dir():
        raise BadInput(f"no folder {data_folder}: give AMI's --data_folder")
    pattern = "*.Headset-?.wav" if mic == "ihm" else "*.Array1-01.wav"
    name = (
        r"([^.]+)\.Headset-(\d)\.wav" if mic == "ihm" else r"([^.]+)\.Array1-0(1)\.wav"
    )
    found: dict[str, dict[int, Path]] = {meeting: {} for meeting in meetings}
    for path in files_below(data_folder, ".wav"):
        match = re.fullmatch(name, path.name)
        if match and match[1] in found:
            found[match[1]][int(match[2]) if mic == "ihm" else 0] = path
    if mic == "sdm":
        _leave_out_known_gaps(found)
    missing = [meeting for meeting, channels in found.items() if not channels]
    if missing:
        raise BadInput(
            f"{data_folder} lacks {pattern} of {len(missing)} of {len(meetings)} "
            f"meetings, for example of {missing[0]}: "
            f"{advice(missing, downloaded=downloaded)}"
        )
    for channels in found.values():
        for path in channels.values():
            _check_wav(path)
    return found


def _leave_out_known_gaps(found):
    gaps = [m for m in WITHOUT_ARRAY if m in found and not found[m]]
    for meeting in gaps:
        del found[meeting]
    if gaps:
        logger.warning(
            "sdm: left out %s, because AMI has no Array1-01.wav of them",
            " and ".join(gaps),
        )


def advice(missing: Sequence[str], *, downloaded: bool) -> str:
    """Return what to do about meetings whose recordings are missing.

    Example
    -------
    >>> advice(["ES2002a"], downloaded=False)
    'add --download, or leave it out with --without ES2002a'
    """
    them = "it" if len(missing) == 1 else "them"
    leave_out = (
        f"leave {them} out with --without {' '.join(missing[:3])}"
        f"{' ...' if missing[3:] else ''}"
    )
    # The same download would end in the same way.
    return f"{'' if downloaded else 'add --download, or '}{leave_out}"


def _check_wav(path):
    # A download that broke off still has its header.
    with open(path, "rb") as file:
        start = file.read(8)
    promised = struct.unpack("<I", start[4:])[0] + 8 if len(start) == 8 else 8
    if start[:4] != b"RIFF" or path.stat().st_size < promised:
        raise BadInput(
            f"{path} is cut off or no WAV file ({path.stat().st_size} of {promised} "
            f"bytes): delete it and download it again"
        )


@contextmanager
def find_annotations(data_folder: Path, output_folder: Path) -> Iterator[Path]:
    """Find the folder of the manual annotations.

    If there is only their archive, it is unpacked to a hidden folder below the output
    for as long as the block lasts, because every other folder there is a split.

    Yields
    ------
    Path

    Raises
    ------
    BadInput
        If there are none, or only those of another version.
    """
    folder, archive = data_folder / VERSION, data_folder / f"{VERSION}.zip"
    if folder.is_dir():
        yield folder
    elif archive.is_file():
        with _unpacked(archive, output_folder / f".{VERSION}") as folder:
            yield folder
    else:
        others = sorted(data_folder.glob("ami_*manual*"))
        there = f" (there is {others[0].name}, another version)" if others else ""
        raise BadInput(
            f"no annotations {VERSION}.zip in {data_folder}{there}: download {URL}"
        )


@contextmanager
def _unpacked(archive, folder):
    # A killed call may have left it.
    shutil.rmtree(folder, ignore_errors=True)
    try:
        try:
            with zipfile.ZipFile(archive) as file:
                file.extractall(folder)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise BadInput(
                f"{archive} is corrupt ({error}): download {URL} again"
            ) from error
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check_annotations(folder: Path, meetings: Sequence[str]) -> None:
    """Refuse annotations that lack a file.

    Raises
    ------
    BadInput
        The message names it.
    """
    index = folder / "corpusResources" / "meetings.xml"
    if not index.is_file():
        raise BadInput(f"no {index}: unpack {URL} again")
    for path in (folder / "words", folder / "segments"):
        if not path.is_dir():
            raise BadInput(f"no folder {path}: unpack {URL} again")
    try:
        listed = {
            (meeting.attrib["observation"], speaker.attrib["nxt_agent"])
            for meeting in ET.parse(index).getroot()
            for speaker in meeting
        }
    except (ET.ParseError, KeyError) as error:
        raise BadInput(f"{index} is corrupt ({error}): unpack {URL} again") from error
    segments = [path.name for path in files_below(folder / "segments", ".xml")]
    # lhotse leaves out, with a warning, whom the index does not list.
    known = listed & {tuple(name.split(".")[:2]) for name in segments}
    missing = set(meetings) - {meeting for meeting, _ in known}
    if missing:
        raise BadInput(
            f"no annotation of the meeting {min(missing)} in {folder}, of a speaker "
            f"whom {index.name} lists: unpack {URL} again"
        )
    for name in segments:
        words = folder / "words" / name.replace(".segments.", ".words.")
        if not words.is_file():
            raise BadInput(f"the annotation {words} is missing: unpack {URL} again")


@contextmanager
def without_hidden_files(annotations: Path) -> Iterator[Path]:
    """Show lhotse the annotations without dot files: it reads all that lies there.

    Yields
    ------
    Path
        A folder of links.
    """
    with tempfile.TemporaryDirectory() as shown:
        for part in ("corpusResources", "segments", "words"):
            (Path(shown) / part).mkdir()
            for path in files_below(annotations / part, ".xml"):
                (Path(shown) / part / path.name).symlink_to(path.absolute())
        yield Path(shown)
