"""Made-up AMI in the real layout: three meetings, two speakers, both microphones."""

import zipfile

import numpy as np
import soundfile

MEETINGS = {"train": ["ES2002a"], "dev": ["ES2011a"], "test": ["ES2004a"]}
SECONDS, RATE = 6, 16000

# Speaker -> segments with their words. As in AMI, a punctuation mark is an entry.
SPOKEN = {
    "A": [
        (0.2, 2.0, [(0.3, 0.8, "Hello"), (0.8, 0.8, ","), (0.9, 1.6, "world")]),
        (2.1, 3.0, [(2.2, 2.8, "?")]),  # only a punctuation mark
        (5.0, 6.9, [(5.1, 5.4, "Too"), (5.5, 6.8, "late")]),  # ends after the recording
    ],
    "B": [
        (1.0, 2.5, [(1.1, 1.5, "Mm-hmm"), (1.6, 2.4, "it's")]),  # overlaps with A
        (3.0, 3.5, []),
        (3.6, 5.0, [(3.7, 4.2, "one"), (4.3, 4.9, "two")]),
    ],
}
# AMI's array has eight microphones; the first is the distant microphone (sdm).
MICROPHONES = ("Headset-0", "Headset-1", "Array1-01", "Array1-02")


def signal(channel):
    """Return (S,) int16, in which each sample encodes its time and its channel."""
    return (np.arange(SECONDS * RATE) % 8000 + 1 + 8000 * channel).astype(np.int16)


def write_meeting(folder, meeting):
    """Write the audio of a meeting: a file for each microphone."""
    audio = folder / "wav_db" / meeting / "audio"
    audio.mkdir(parents=True)
    for channel, name in enumerate(MICROPHONES):
        path = audio / f"{meeting}.{name}.wav"
        soundfile.write(path, signal(channel), RATE, "PCM_16")


ROOT = '<nite:root nite:id="x" xmlns:nite="http://nite.sourceforge.net/">'


def write_annotations(folder, meetings):
    """Write corpusResources, words and segments as in ami_public_manual_1.6.2."""
    for name in ("corpusResources", "words", "segments"):
        (folder / name).mkdir(parents=True)
    people = "".join(
        f'<meeting observation="{meeting}">'
        f'<speaker nxt_agent="A" global_name="MEE0{n}" channel="0"/>'
        f'<speaker nxt_agent="B" global_name="FEE0{n}" channel="1"/></meeting>'
        for n, meeting in enumerate(meetings, 10)
    )
    text = f"<meetings>{people}</meetings>"
    (folder / "corpusResources" / "meetings.xml").write_text(text)
    for meeting in meetings:
        for agent, segments in SPOKEN.items():
            spans = "".join(
                f'<segment transcriber_start="{start}" transcriber_end="{end}"/>'
                for start, end, _ in segments
            )
            words = "".join(
                f'<w starttime="{start}" endtime="{end}"'
                f"{' punc=' + chr(34) + 'true' + chr(34) if text in ',?' else ''}>"
                f"{text}</w>"
                for _, _, spoken in segments
                for start, end, text in spoken
            )
            for kind, content in (("segments", spans), ("words", words)):
                path = folder / kind / f"{meeting}.{agent}.{kind}.xml"
                path.write_text(f"{ROOT}{content}</nite:root>")


def write_ami(folder):
    """Write wav_db and the archive of annotations."""
    meetings = [meeting for part in MEETINGS.values() for meeting in part]
    for meeting in meetings:
        write_meeting(folder, meeting)
    write_annotations(folder / "manual", meetings)
    with zipfile.ZipFile(folder / "ami_public_manual_1.6.2.zip", "w") as archive:
        for path in sorted((folder / "manual").rglob("*.xml")):
            archive.write(path, path.relative_to(folder / "manual"))
    return folder
