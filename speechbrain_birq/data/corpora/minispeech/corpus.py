"""minispeech: a small corpus of synthetic English speech in LibriSpeech layout.

Every speaker is one fresh process, because espeak-ng carries state from one voice to
the next. That process imports neither torch nor scipy: scipy.signal alone takes longer
to import than a speaker takes to say everything.
"""

import itertools
import json
import math
import os
import random
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

from speechbrain_birq.data.corpora.minispeech.conditions import (
    VOCAL_TRACT,
    draw_conditions,
    record,
    warp,
)
from speechbrain_birq.data.corpora.minispeech.espeak import (
    Espeak,
    find_espeak,
    phone_intervals,
)
from speechbrain_birq.data.corpora.minispeech.grammar import sentence, transcript

VERSION = 1
VARIETIES = "low", "high"
LOUDEST = 0.99  # of full scale
SAMPLE_RATE = 16000
MIN_HOURS = 0.01
SUMMARY = "minispeech.json"
MADE = "seconds", "speakers"  # of the summary; the rest identifies the corpus
# Share of the hours, and number of speakers at half an hour.
SPLITS = dict(pretrain=(0.75, 10), train=(0.125, 5), dev=(0.05, 3), test=(0.075, 4))
# One sentence in eight is kept for dev and one for test; the rest is for training.
EVALUATION_BUCKETS = {"dev": 0, "test": 1}
# espeak-ng knows British English, en-gb, by the file name "en" only.
ACCENTS = ("en", "en-us", "en-gb-scotland", "en-gb-x-rp", "en-029", "en-us-nyc")
VARIANTS = tuple("m1 f1 m2 f2 m3 f3 m4 f4 m5 f5 m6 m7 m8".split())
# A speaker's manner is drawn between these, in whole numbers or to two decimals.
WHOLE_TRAITS = {"rate": (145, 195), "pitch": (35, 65), "pitch_range": (35, 70)}
TRAITS = {"gain_db": (-12, -1), "snr_db": (25, 35), "noise_tilt": (0, 0.9)}
CHAPTER_LENGTH = 25


@dataclass(frozen=True)
class Speaker:
    """One synthetic person: who they are, how they sound, how long they speak."""

    name: str
    split: str
    voice: str
    rate: int  # words per minute
    pitch: int
    pitch_range: int
    gain_db: float
    snr_db: float
    noise_tilt: float
    seconds: float  # of audio in all
    stream: str  # seed of everything random about this speaker
    # Length of the vocal tract as a factor of all formants; None: variety "low".
    vocal_tract: float | None = None


def _noise(rng, length, tilt):
    """Noise of unit power, white at tilt 0 and without its highest tones at 1."""
    white = rng.standard_normal(length + 1)
    return (white[1:] + tilt * white[:-1]) / math.sqrt(1 + tilt**2)


def _record(engine, speaker, text, rng):
    """Speak a sentence into the speaker's room; return samples and intervals."""
    speech, marks = engine.say(text)
    lead = int(rng.uniform(0.1, 0.4) * SAMPLE_RATE)
    audio = np.concatenate([np.zeros(lead), speech])
    marks = [(lead + start, phone) for start, phone in marks]
    if speaker.vocal_tract is None:
        floor = speech.std() * 10 ** (-speaker.snr_db / 20)
        audio = audio + floor * _noise(rng, len(audio), speaker.noise_tilt)
    else:
        audio, marks = _record_anywhere(audio, marks, speaker, rng)
    audio *= 10 ** (speaker.gain_db / 20)
    return audio, phone_intervals(marks, len(audio))


def _record_anywhere(audio, marks, speaker, rng):
    """Warp, echo, noise and microphone of variety "high"; phones move along."""
    conditions = draw_conditions(rng, speaker.vocal_tract)
    audio = warp(audio, conditions.warp)
    marks = [(round(start / conditions.warp), phone) for start, phone in marks]
    audio = record(audio, conditions, rng, SAMPLE_RATE)
    return audio * min(1.0, LOUDEST / np.abs(audio).max()), marks


def _split_sentence(rng, split):
    """Draw a sentence of the share that belongs to a split."""
    while True:
        text = sentence(rng)
        bucket = zlib.crc32(transcript(text).encode()) % 8
        wanted = EVALUATION_BUCKETS.get(split)
        if bucket == wanted or (wanted is None and bucket > 1):
            return text


def _engine(speaker):
    """Sets espeak-ng to the voice of a speaker."""
    seed = zlib.crc32(speaker.stream.encode())
    traits = speaker.rate, speaker.pitch, speaker.pitch_range
    return Espeak(speaker.voice, *traits, seed=seed, sample_rate=SAMPLE_RATE)


def _utterances(speaker):
    """Speak sentences until the speaker's seconds are as near as they get."""
    engine, words = _engine(speaker), random.Random(speaker.stream)
    rng = np.random.default_rng(words.getrandbits(64))
    spoken = 0.0
    while True:
        text = _split_sentence(words, speaker.split)
        audio, intervals = _record(engine, speaker, text, rng)
        seconds = len(audio) / SAMPLE_RATE
        if spoken > 0 and spoken + seconds / 2 > speaker.seconds:
            return
        spoken += seconds
        yield transcript(text), audio, intervals


def _write_chapter(folder, chapter, utterances):
    """Write the sound, the transcripts and the phones of a chapter; count samples."""
    folder.mkdir(parents=True)
    words, phones = [], ["utterance\tstart_seconds\tend_seconds\tphone"]
    for index, (text, audio, intervals) in enumerate(utterances):
        name = f"{chapter}-{index:04d}"
        soundfile.write(folder / f"{name}.flac", audio, SAMPLE_RATE, "PCM_16")
        words.append(f"{name} {text}")
        for start, end, phone in intervals:
            times = f"{start / SAMPLE_RATE}\t{end / SAMPLE_RATE}"
            phones.append(f"{name}\t{times}\t{phone}")
    for suffix, lines in (("trans.txt", words), ("phones.tsv", phones)):
        path = folder / f"{chapter}.{suffix}"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    return sum(len(audio) for _, audio, _ in utterances)


def _speak():
    """Body of the process of one speaker: the job is on the standard input."""
    job = json.load(sys.stdin)
    speaker, folder = Speaker(**job["speaker"]), Path(job["folder"])
    utterances, samples = _utterances(speaker), 0
    chapters = iter(lambda: list(itertools.islice(utterances, CHAPTER_LENGTH)), [])
    for number, chapter in enumerate(chapters, 1):
        name = f"{speaker.name}{number:02d}"
        samples += _write_chapter(folder / name, f"{speaker.name}-{name}", chapter)
    print(json.dumps(samples / SAMPLE_RATE))


def _run_speaker(speaker, folder):
    """Has a fresh process speak for one speaker; returns the seconds of audio."""
    # Not multiprocessing: its children import the main script, hence often torch.
    command = [sys.executable, "-c", f"from {__spec__.name} import _speak; _speak()"]
    path = [str(Path(__file__).resolve().parents[4]), *filter(None, sys.path)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    folder = str(folder / speaker.split / speaker.name)
    job = json.dumps({"speaker": asdict(speaker), "folder": folder})
    done = subprocess.run(command, input=job, env=env, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"minispeech speaker {speaker.name}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def plan_speakers(
    hours: float,
    seed: int,
    variety: str = "low",
    shares: dict[str, float] | None = None,
) -> list[Speaker]:
    """Cast the speakers of a corpus; cheap, and the same for the same arguments.

    Arguments
    ---------
    hours : float
        Length of the whole corpus; the number of speakers of a split grows as the
        square root of the split's hours.
    seed : int
        Seed of voices and settings.
    variety : str
        "low", or "high": vocal tracts differ, too.
    shares : dict, optional
        Share of the hours by split, of those that differ from the default.

    Returns
    -------
    speakers : list of Speaker
        All speakers; each split has its own.

    Example
    -------
    >>> len(plan_speakers(0.5, seed=0))
    22
    """
    speakers: list[Speaker] = []
    voices = [f"{accent}+{variant}" for accent in ACCENTS for variant in VARIANTS]
    random.Random(f"{VERSION}/{seed}").shuffle(voices)
    next_voice = itertools.cycle(voices)
    for split, (default, base) in SPLITS.items():
        share = (shares or {}).get(split, default)
        count = max(1, round(base * math.sqrt(hours / 0.5 * share / default)))
        seconds = 3600 * hours * share / count
        for _ in range(count):
            name = str(1001 + len(speakers))
            stream = f"{VERSION}/{seed}/{split}/{name}"
            speaker = _cast(name, split, next(next_voice), seconds, stream, variety)
            speakers.append(speaker)
    return speakers


def _cast(name, split, voice, seconds, stream, variety):
    """Draw how one speaker sounds."""
    rng = random.Random(f"{stream}/cast")
    traits = {trait: rng.randint(*span) for trait, span in WHOLE_TRAITS.items()}
    for trait, span in TRAITS.items():
        traits[trait] = round(rng.uniform(*span), 2)
    if variety == "high":
        traits["vocal_tract"] = round(rng.uniform(*VOCAL_TRACT), 3)
    return Speaker(name, split, voice, **traits, seconds=seconds, stream=stream)


def _identity(hours, seed, variety, shares):
    """Return what distinguishes one corpus from another."""
    if not MIN_HOURS <= hours < math.inf:
        wanted = f"{MIN_HOURS} or more, so that every split gets a sentence."
        raise ValueError(f"minispeech: hours is {hours}; ask for {wanted}")
    if variety not in VARIETIES:
        wanted = " or ".join(VARIETIES)
        raise ValueError(f"minispeech: variety is {variety!r}; ask for {wanted}")
    _check_shares(shares)
    settings = {"seed": int(seed), "hours": float(hours)}
    # Corpora made before there was a choice have neither key.
    settings |= {"variety": variety} if variety != "low" else {}
    settings |= {"shares": shares} if shares else {}
    return {"corpus": "minispeech", "version": VERSION, **settings}


def _check_shares(shares):
    unknown = sorted(shares.keys() - SPLITS)
    if unknown:
        raise ValueError(
            f"minispeech: no split {unknown[0]!r}, but {', '.join(SPLITS)}"
        )
    bad = [split for split, share in shares.items() if not 0 < share <= 1]
    if bad:
        raise ValueError(
            f"minispeech: the share of {bad[0]} is {shares[bad[0]]}; "
            "give one above 0 and at most 1"
        )


def _existing(folder, identity):
    """Return the summary of this corpus if the folder holds it, None if empty."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    summary = folder / SUMMARY
    found = json.loads(summary.read_text("utf-8")) if summary.is_file() else {}
    known = {key: value for key, value in found.items() if key not in MADE}
    if known == identity:
        return found
    keys = dict.fromkeys([*identity, "variety", "shares"])
    held = {key: found[key] for key in keys if key in found} or "other files"
    raise ValueError(
        f"{folder} holds {held}, not {identity}: name an empty or new folder, "
        "or delete this one."
    )


def _synthesize(folder, identity, num_workers):
    """Fills a folder with all speakers and the summary; returns the summary."""
    wanted = {key: identity[key] for key in ("variety", "shares") if key in identity}
    speakers = plan_speakers(identity["hours"], identity["seed"], **wanted)
    seconds = dict.fromkeys(SPLITS, 0.0)
    with ThreadPoolExecutor(num_workers or os.cpu_count()) as pool:
        spoken = pool.map(lambda speaker: _run_speaker(speaker, folder), speakers)
        bar = tqdm(spoken, "minispeech", total=len(speakers), unit="speaker")
        for speaker, duration in zip(speakers, bar, strict=True):
            seconds[speaker.split] += duration
    voices = {speaker.name: asdict(speaker) for speaker in speakers}
    summary = {**identity, "seconds": seconds, "speakers": voices}
    (folder / SUMMARY).write_text(json.dumps(summary, indent=1) + "\n", "utf-8")
    return summary


def _build(folder, identity, num_workers):
    """Synthesize the corpus; the folder appears once it is complete."""
    # Not at the top: it imports torch, which the processes of the speakers do without.
    from speechbrain_birq.checkpoints.files import new_folder
    from speechbrain_birq.checkpoints.run_lock import locked

    find_espeak()
    with locked(folder, folder.with_name(f".{folder.name}.lock")):
        # Another process may just have made it.
        if summary := _existing(folder, identity):
            return summary
        with new_folder(folder) as partial:
            return _synthesize(partial, identity, num_workers)


def make_minispeech(
    folder: str | Path,
    hours: float = 0.5,
    seed: int = 0,
    num_workers: int | None = None,
    variety: str = "low",
    shares: dict[str, float] | None = None,
) -> dict[str, float]:
    """Synthesize the minispeech corpus, unless the folder already holds it.

    Beside each ``.trans.txt`` a ``.phones.tsv`` gives the time of every phone.

    Arguments
    ---------
    folder : str or Path
        Where the corpus goes: new, empty, or the same corpus made before.
    hours : float
        Length of the whole corpus, at least 0.01.
    seed : int
        Seed of voices, sentences and noise; the same seed gives the same bytes.
    num_workers : int, optional
        Speakers synthesized at a time; all cores by default.
    variety : str
        "low": clean speech of espeak-ng's voices. "high": vocal tract length, speed,
        room, noise and microphone differ from utterance to utterance.
    shares : dict, optional
        Share of the hours by split, of those that differ from the default.

    Returns
    -------
    seconds : dict
        Seconds of audio of each split: pretrain, train, dev and test.

    Raises
    ------
    ValueError
        If the hours are too few, if the variety or a share is none, or if the folder
        holds anything else.
    ImportError
        If the package espeakng-loader is missing.
    BadInput
        If another process is making the same folder.

    Example
    -------
    >>> folder = getfixture("tmp_path") / "minispeech"
    >>> list(make_minispeech(folder, hours=0.01))
    ['pretrain', 'train', 'dev', 'test']
    """
    identity = _identity(hours, seed, variety, dict(shares or {}))
    folder = Path(folder).resolve()
    summary = _existing(folder, identity) or _build(folder, identity, num_workers)
    return summary["seconds"]
