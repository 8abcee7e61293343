"""AMI: meetings are cut into their segments, which lie in LibriSpeech's layout.

    <data_folder>/wav_db/<meeting>/audio/<meeting>.Headset-0.wav, .Array1-01.wav
    <data_folder>/ami_public_manual_1.6.2.zip, or the folder it becomes
    <output_folder>/<mic>-<part>/<meeting>/<speaker>-<meeting>-<mic><number>.flac

Partitions, annotations and text normalization are lhotse's. Segments become files (some
20 GB for both microphones), because everything else then reads AMI as it reads
LibriSpeech; otherwise every utterance would seek in a recording of an hour.
"""

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from speechbrain_birq.checkpoints.files import check_free_space
from speechbrain_birq.checkpoints.run_lock import locked
from speechbrain_birq.data.corpora.ami.files import (
    URL,
    advice,
    check_annotations,
    find_annotations,
    find_audio,
    without_hidden_files,
)
from speechbrain_birq.data.corpora.ami.segments import Counts, Segment, cut_meeting
from speechbrain_birq.data.corpora.librispeech import prepare_librispeech
from speechbrain_birq.errors import BadInput

MICS = ("ihm", "sdm")
PARTS = ("train", "dev", "test")
PARTITION = "full-corpus-asr"  # as Kaldi, ESPnet and icefall have it
# lhotse splits every segment at full stops before a pause, joins sentences without a
# pause up to so many words, and splits what is longer at commas.
MAX_WORDS = 30
BYTES_PER_SECOND = 20_000  # of FLAC at 16 kHz, generously


def prepare_ami(
    data_folder: str | Path,
    output_folder: str | Path,
    *,
    mics: Sequence[str] = MICS,
    parts: Sequence[str] = PARTS,
    without: Sequence[str] = (),
    download: bool = False,
) -> dict[str, Counts]:
    """Cut AMI's meetings into segments; the folder of a meeting is written atomically.

    Called again after a kill, it keeps the meetings that are done. Overlapping speech
    stays: each speaker's segment is cut from the own headset (ihm), or from the one
    distant microphone, where all speakers are heard (sdm). Two meetings that AMI has
    no such recording of are left out of sdm (``WITHOUT_ARRAY``).

    Arguments
    ---------
    data_folder : str or Path
        AMI as lhotse downloads it.
    output_folder : str or Path
        Where the segments go.
    mics, parts : sequence of str
        Microphones and parts of the corpus that are wanted.
    without : sequence of str
        Meetings to leave out, for example because their microphone failed.
    download : bool
        Fetch what is missing in ``data_folder`` first: 60 to 70 GB.

    Returns
    -------
    dict
        "<mic>-<part>" -> ``Counts`` of the meetings that were cut now

    Raises
    ------
    BadInput
        If audio or annotations are missing, cut off or of another version, the disk is
        too small, or another process prepares the same folder: all before the first
        meeting is cut.
    """
    lhotse_ami = _lhotse_ami()
    data_folder, output_folder = Path(data_folder), Path(output_folder)
    if download:
        with locked(data_folder):
            _download(lhotse_ami, data_folder, mics)
    partitions = lhotse_ami.PARTITIONS[PARTITION]
    unknown = set(without) - {m for part in partitions.values() for m in part}
    if unknown:
        raise BadInput(f"--without {min(unknown)}: AMI has no such meeting")
    meetings = {
        part: [m for m in partitions[part] if m not in without] for part in parts
    }
    wanted = [m for part in meetings.values() for m in part]
    audio = {
        mic: find_audio(data_folder, mic, wanted, downloaded=download) for mic in mics
    }
    with locked(output_folder):
        with find_annotations(data_folder, output_folder) as annotations:
            check_annotations(annotations, wanted)
            segments = _segments(lhotse_ami, annotations)
        _check_headsets(audio.get("ihm", {}), segments, downloaded=download)
        return _cut(output_folder, meetings, audio, segments)


def _cut(output_folder, meetings, audio, segments):
    to_cut = [
        (mic, part, meeting)
        for mic in audio
        for part in meetings
        for meeting in meetings[part]
        if meeting in audio[mic]
        and not (output_folder / f"{mic}-{part}" / meeting).is_dir()
    ]
    seconds = sum(s.end - s.start for *_, meeting in to_cut for s in segments[meeting])
    check_free_space(
        output_folder,
        seconds * BYTES_PER_SECOND,
        "make room or give another --output_folder",
    )
    counts = {f"{mic}-{part}": Counts() for mic in audio for part in meetings}
    for mic, part, meeting in tqdm(to_cut, "meetings"):
        folder = output_folder / f"{mic}-{part}" / meeting
        done = cut_meeting(folder, mic, audio[mic][meeting], segments[meeting])
        counts[f"{mic}-{part}"] += done
    return counts


def find_ami(
    data_folder: str | Path, splits: list[str], manifest_folder: str | Path
) -> dict[str, Path]:
    """Write manifests of what ``prepare_ami`` has cut, as ``prepare_librispeech`` does.

    Raises
    ------
    BadInput
        If a split is missing, or the folder is AMI as it was downloaded.
    """
    if (Path(data_folder) / "wav_db").is_dir() and not all(
        (Path(data_folder) / part).is_dir() for s in splits for part in s.split("+")
    ):
        raise BadInput(
            f"{data_folder} holds AMI's meetings, not yet cut into segments: run "
            f"recipes/AMI/prepare.py, give its --output_folder as --data_folder"
        )
    return prepare_librispeech(data_folder, splits, manifest_folder)


def _segments(lhotse_ami, annotations):
    """meeting -> segments"""
    parse = lhotse_ami.parse_ami_annotations
    try:
        with without_hidden_files(annotations) as shown:
            found = parse(
                shown,
                normalize="kaldi",  # upper case, no punctuation
                max_words_per_segment=MAX_WORDS,
                merge_consecutive=True,
            )
    except (ET.ParseError, AttributeError, KeyError, TypeError, ValueError) as error:
        # No word of the corpus is empty; to lhotse such a word is None.
        why = "a word has no text" if isinstance(error, AttributeError) else error
        raise BadInput(
            f"an annotation in {annotations} is corrupt ({why}): unpack {URL} again"
        ) from error
    segments: dict[str, list[Segment]] = {}
    for (meeting, speaker, channel), spoken in found.items():
        segments.setdefault(meeting, []).extend(
            Segment(speaker, channel, s.start_time, s.end_time, s.text) for s in spoken
        )
    return segments


def _check_headsets(audio, segments, *, downloaded):
    for meeting, channels in audio.items():
        missing = {s.channel for s in segments[meeting]} - channels.keys()
        if missing:
            raise BadInput(
                f"{meeting} has no Headset-{min(missing)}.wav, but someone speaks "
                f"there: {advice([meeting], downloaded=downloaded)}"
            )


def _lhotse_ami() -> Any:
    try:
        from lhotse.recipes import ami
    except ImportError as error:
        raise BadInput(
            'AMI is prepared with lhotse: pip install "speechbrain_birq[large]"'
        ) from error
    return ami


def _download(lhotse_ami, data_folder, mics):
    data_folder.mkdir(parents=True, exist_ok=True)
    for mic in mics:
        try:
            lhotse_ami.download_ami(data_folder, mic=mic)
        except OSError as error:
            raise BadInput(
                f"cannot download AMI ({error}): give the same command again to resume"
            ) from error
