"""One meeting of AMI cut into its segments: audio and transcripts."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import soundfile

from speechbrain_birq.checkpoints.files import new_folder

logger = logging.getLogger(__name__)


class Segment(NamedTuple):
    """What one speaker says without a break."""

    speaker: str
    channel: int  # of the headset
    start: float  # seconds
    end: float
    text: str


class Counts(NamedTuple):
    """Numbers of segments that were cut or left out, of one microphone and part."""

    segments: int = 0
    seconds: float = 0.0
    empty: int = 0  # left out: no text, or no time
    beyond: int = 0  # left out: they end after the recording

    def __add__(self, other):  # type: ignore[override]
        return Counts(*(a + b for a, b in zip(self, other, strict=True)))


def cut_meeting(
    folder: Path, mic: str, audio: Mapping[int, Path], segments: Sequence[Segment]
) -> Counts:
    """Write one meeting's segments and transcripts.

    Arguments
    ---------
    folder : Path
        To be made; its name is the meeting's.
    mic : str
        ihm or sdm.
    audio : mapping
        channel -> recording; the single microphone has channel 0.
    segments : sequence of Segment
        In any order.
    """
    counts, lines, beyond = Counts(), [], []
    ordered = sorted(segments, key=lambda s: (s.start, s.speaker))
    with new_folder(folder) as partial:
        for number, segment in enumerate(ordered):
            name = f"{segment.speaker}-{folder.name}-{mic}{number:04d}"
            path = audio[segment.channel if mic == "ihm" else 0]
            outcome = _cut(path, segment, partial / f"{name}.flac")
            counts += outcome
            if outcome.beyond:
                beyond.append(name)
            if outcome.segments:
                lines.append(f"{name} {segment.text}\n")
        transcripts = partial / f"{folder.name}.trans.txt"
        transcripts.write_text("".join(lines), encoding="utf-8")
    if beyond:
        logger.warning(
            "%s, %s: left out %d segments that end after the recording: %s",
            *(folder.name, mic, len(beyond), ", ".join(beyond[:5])),
        )
    return counts


def _cut(path, segment, target):
    """Write one segment to one file, if there is anything in it."""
    with soundfile.SoundFile(path) as recording:
        start, end = (round(t * recording.samplerate) for t in segment[2:4])
        if not segment.text or end <= start:
            return Counts(empty=1)
        if end > recording.frames:
            return Counts(beyond=1)
        recording.seek(start)
        samples = recording.read(end - start, dtype="int16", always_2d=True)
        soundfile.write(target, samples[:, 0], recording.samplerate, "PCM_16")
        return Counts(segments=1, seconds=(end - start) / recording.samplerate)
