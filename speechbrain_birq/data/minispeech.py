"""minispeech: a small corpus of synthetic English speech in LibriSpeech layout.

espeak-ng speaks the sentences of :mod:`minispeech_grammar` offline and reports when
each phone begins, so the corpus comes with exact phone times. Every speaker is one
fresh process, because espeak-ng carries state from one voice to the next. That
process imports neither torch nor scipy: scipy.signal alone takes longer to import
than a speaker takes to say everything.
"""

import ctypes
import importlib
import itertools
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

from speechbrain_birq.data.minispeech_grammar import sentence, transcript

VERSION = 1
SAMPLE_RATE = 16000
MIN_HOURS = 0.01
SUMMARY = "minispeech.json"
# Share of the hours, and number of speakers at half an hour.
SPLITS = {
    "pretrain": (0.75, 10),
    "train": (0.125, 5),
    "dev": (0.05, 3),
    "test": (0.075, 4),
}
# One sentence in eight is kept for dev and one for test; the rest is for training.
EVALUATION_BUCKETS = {"dev": 0, "test": 1}
# espeak-ng knows British English, en-gb, by the file name "en" only.
ACCENTS = ("en", "en-us", "en-gb-scotland", "en-gb-x-rp", "en-029", "en-us-nyc")
VARIANTS = (
    "m1",
    "f1",
    "m2",
    "f2",
    "m3",
    "f3",
    "m4",
    "f4",
    "m5",
    "f5",
    "m6",
    "m7",
    "m8",
)
UTTERANCES_PER_CHAPTER = 25
STOPS = tuple("pbtdk\u0261\u0294")
SILENCE = "SIL"

# From espeak-ng's speak_lib.h.
_EVENT_PHONEME = 7
_SYNCHRONOUS = 2
_PHONEME_EVENTS, _PHONEME_IPA, _DONT_EXIT = 0x0001, 0x0002, 0x8000
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4
_CHARS_UTF8, _END_PAUSE = 0x0001, 0x1000


@dataclass(frozen=True)
class Speaker:
    """One synthetic person: who they are, how they sound, how long they speak."""

    name: str
    split: str
    voice: str
    rate: int
    pitch: int
    pitch_range: int
    gain_db: float
    snr_db: float
    noise_tilt: float
    seconds: float
    stream: str


class _EventId(ctypes.Union):
    _fields_ = [
        ("number", ctypes.c_int),
        ("name", ctypes.c_char_p),
        ("string", ctypes.c_char * 8),
    ]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    ]


_Samples = ctypes.POINTER(ctypes.c_short)
_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, _Samples, ctypes.c_int, ctypes.POINTER(_Event)
)
_SIGNATURES = {
    "espeak_Initialize": [ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_int],
    "espeak_ng_SetRandSeed": [ctypes.c_long],
    "espeak_SetSynthCallback": [_Callback],
    "espeak_SetVoiceByName": [ctypes.c_char_p],
    "espeak_SetParameter": [ctypes.c_int, ctypes.c_int, ctypes.c_int],
    "espeak_Synth": [
        *(ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int),
        *(ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p),
    ],
}


def _espeakng_loader():
    """Imports the package that carries the espeak-ng library and its data."""
    try:
        return importlib.import_module("espeakng_loader")
    except ImportError as error:
        raise ImportError(
            "minispeech needs the package espeakng-loader: "
            'pip install "speechbrain_birq[demo]"'
        ) from error


class _Espeak:
    """espeak-ng through its C API, set to one speaker."""

    def __init__(self, speaker):
        loader = _espeakng_loader()
        self._library = ctypes.CDLL(loader.get_library_path())
        for name, argtypes in _SIGNATURES.items():
            getattr(self._library, name).argtypes = argtypes
        data = os.fsencode(loader.get_data_path())
        options = _PHONEME_EVENTS | _PHONEME_IPA | _DONT_EXIT
        self.rate = self._library.espeak_Initialize(_SYNCHRONOUS, 0, data, options)
        if self.rate <= 0:
            raise RuntimeError(f"espeak-ng cannot read its data in {data!r}")
        # espeak-ng starts its breath and flutter noise from the clock.
        self._call("espeak_ng_SetRandSeed", zlib.crc32(speaker.stream.encode()))
        # The library keeps a bare pointer to the callback: it must outlive this call.
        self._callback = _Callback(self._receive)
        self._library.espeak_SetSynthCallback(self._callback)
        self._call("espeak_SetVoiceByName", speaker.voice.encode())
        # At the full volume of 100 the loudest voices reach the limits of 16 bits.
        settings = {_VOLUME: 60, _RATE: speaker.rate, _PITCH: speaker.pitch}
        for parameter, value in {**settings, _RANGE: speaker.pitch_range}.items():
            self._call("espeak_SetParameter", parameter, value, 0)

    def _call(self, name, *arguments):
        """Calls a function of the library and raises if it reports an error."""
        status = getattr(self._library, name)(*arguments)
        if status != 0:
            raise RuntimeError(f"{name}{arguments} failed with status {status}")

    def _receive(self, samples, count, events):
        """Collects what espeak-ng hands over; 0 asks it to go on."""
        if count > 0:
            self._chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        every = (events[index] for index in itertools.count())
        for event in itertools.takewhile(lambda event: event.type, every):
            if event.type == _EVENT_PHONEME:
                self._marks.append((event.sample, _phone(event.id.string)))
        return 0

    def say(self, text):
        """Returns samples in [-1, 1] and the (sample, phone) marks of a sentence."""
        self._chunks, self._marks = [], []
        data = text.encode()
        flags = _CHARS_UTF8 | _END_PAUSE
        self._call("espeak_Synth", data, len(data) + 1, 0, 1, 0, flags, None, None)
        samples = np.concatenate(self._chunks) / 32768
        marks = _without_glides(samples, self._marks)
        return samples, _with_closures(samples, marks, self.rate)


def _phone(name):
    """Reads espeak-ng's name of a phone, without its stress mark."""
    # The name is cut at 8 bytes, which may fall inside a character.
    text = name.decode(errors="ignore").strip("ˈˌ").replace(":", "\u02d0")
    return text or SILENCE


def _without_glides(samples, marks):
    """Drops the nameless marks that are heard: linking sounds of the phone before."""
    # Pauses lie 18 dB or more below the utterance, echo included; glides 12 at most.
    loud = samples.std() * 10 ** (-15 / 20)
    kept = []
    for (start, phone), (end, _) in itertools.pairwise([*marks, (len(samples), "")]):
        if phone != SILENCE or (end > start and samples[start:end].std() < loud):
            kept.append((start, phone))
    return kept


def _with_closures(samples, marks, rate):
    """Moves the start of each stop from its release back to its closure.

    espeak-ng marks a stop after the silence of up to 60 ms in which the mouth is
    closed, which would count that silence to the phone before.
    """
    hop, previous, moved = rate // 200, 0, []
    for start, phone in marks:
        if phone.startswith(STOPS):
            level = np.abs(samples[previous:start])
            quiet = level < 0.1 * level.max(initial=0)
            back = 0
            while back < 12 and quiet[::-1][back * hop : (back + 1) * hop].all():
                back += 1
            start -= min(back * hop, (start - previous) // 2)
        moved.append((start, phone))
        previous = start
    return moved


def _resample(samples, rate):
    """Band-limited change of rate in the frequency domain, aligned in time."""
    divisor = math.gcd(SAMPLE_RATE, rate)
    block = rate // divisor
    length = -(-len(samples) // block) * block
    target = length // block * (SAMPLE_RATE // divisor)
    spectrum = np.fft.rfft(samples, length)[: target // 2 + 1]
    # A soft edge over the top 400 Hz keeps the filter from ringing.
    edge = np.clip((1 - np.linspace(0, 1, len(spectrum))) * 20, 0, 1)
    return np.fft.irfft(spectrum * np.sin(edge * np.pi / 2) ** 2, target) * (
        target / length
    )


def _noise(rng, length, tilt):
    """Noise of unit power, white at tilt 0 and without its highest tones at 1."""
    white = rng.standard_normal(length + 1)
    return (white[1:] + tilt * white[:-1]) / math.sqrt(1 + tilt**2)


def _intervals(marks, total):
    """Turns (start, phone) marks into (start, end, phone) from 0 to the end."""
    intervals = []
    marks = [(0, SILENCE), *marks, (total, SILENCE)]
    for (start, phone), (end, _) in itertools.pairwise(marks):
        if intervals and intervals[-1][2] == phone == SILENCE:
            start = intervals.pop()[0]
        if end > start:
            intervals.append((start, end, phone))
    return intervals


def _record(engine, speaker, text, rng):
    """Speaks a sentence into the speaker's room; returns samples and intervals."""
    samples, marks = engine.say(text)
    speech = _resample(samples, engine.rate)
    lead = int(rng.uniform(0.1, 0.4) * SAMPLE_RATE)
    audio = np.concatenate([np.zeros(lead), speech])
    floor = speech.std() * 10 ** (-speaker.snr_db / 20)
    audio = audio + floor * _noise(rng, len(audio), speaker.noise_tilt)
    audio *= 10 ** (speaker.gain_db / 20)
    ratio = SAMPLE_RATE / engine.rate
    marks = [(lead + round(start * ratio), phone) for start, phone in marks]
    return audio, _intervals(marks, len(audio))


def _split_sentence(rng, split):
    """Draws a sentence of the share that belongs to a split."""
    while True:
        text = sentence(rng)
        bucket = zlib.crc32(transcript(text).encode()) % 8
        wanted = EVALUATION_BUCKETS.get(split)
        if bucket == wanted or (wanted is None and bucket > 1):
            return text


def _utterances(speaker):
    """Speaks sentences until the speaker's seconds are as near as they get."""
    engine, words = _Espeak(speaker), random.Random(speaker.stream)
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
    """Writes the sound, the transcripts and the phones of a chapter; counts samples."""
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
    speaker = Speaker(**job["speaker"])
    folder = Path(job["folder"], speaker.split, speaker.name)
    utterances, samples = _utterances(speaker), 0
    for number in itertools.count(1):
        chapter = list(itertools.islice(utterances, UTTERANCES_PER_CHAPTER))
        if not chapter:
            break
        name = f"{speaker.name}{number:02d}"
        samples += _write_chapter(folder / name, f"{speaker.name}-{name}", chapter)
    print(json.dumps(samples / SAMPLE_RATE))


def _run_speaker(speaker, folder):
    """Has a fresh process speak for one speaker; returns the seconds of audio."""
    # Not multiprocessing: its children import the main script, hence often torch.
    code = f"from {__spec__.name} import _speak; _speak()"
    path = [str(Path(__file__).resolve().parents[2]), *filter(None, sys.path)]
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps({"speaker": asdict(speaker), "folder": str(folder)}),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise RuntimeError(f"minispeech speaker {speaker.name}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def plan_speakers(hours: float, seed: int) -> list:
    """Casts the speakers of a corpus; cheap, and the same for the same arguments.

    Arguments
    ---------
    hours : float
        Length of the whole corpus; the number of speakers grows as its square root.
    seed : int
        Seed of voices and settings.

    Returns
    -------
    speakers : list of Speaker
        All speakers; each split has its own.

    Example
    -------
    >>> len(plan_speakers(0.5, seed=0))
    22
    """
    voices = [f"{accent}+{variant}" for accent in ACCENTS for variant in VARIANTS]
    random.Random(f"{VERSION}/{seed}").shuffle(voices)
    voices, speakers = itertools.cycle(voices), []
    for split, (share, base) in SPLITS.items():
        count = max(1, round(base * math.sqrt(hours / 0.5)))
        seconds = 3600 * hours * share / count
        for _ in range(count):
            name = str(1001 + len(speakers))
            stream = f"{VERSION}/{seed}/{split}/{name}"
            speakers.append(_cast(name, split, next(voices), seconds, stream))
    return speakers


def _cast(name, split, voice, seconds, stream):
    """Draws how one speaker sounds."""
    rng = random.Random(f"{stream}/cast")
    return Speaker(
        name=name,
        split=split,
        voice=voice,
        rate=rng.randint(145, 195),
        pitch=rng.randint(35, 65),
        pitch_range=rng.randint(35, 70),
        gain_db=round(rng.uniform(-12, -1), 2),
        snr_db=round(rng.uniform(25, 35), 2),
        noise_tilt=round(rng.uniform(0, 0.9), 2),
        seconds=seconds,
        stream=stream,
    )


def _existing(folder, identity):
    """Returns the summary of this corpus if the folder holds it, None if empty."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    summary = folder / SUMMARY
    found = json.loads(summary.read_text("utf-8")) if summary.is_file() else {}
    if {key: found.get(key) for key in identity} == identity:
        return found
    held = {key: found[key] for key in identity if key in found} or "other files"
    raise ValueError(
        f"{folder} holds {held}, not {identity}: name an empty or new folder, "
        "or delete this one."
    )


def _synthesise(folder, identity, num_workers):
    """Fills a folder with all speakers and the summary; returns the summary."""
    speakers = plan_speakers(identity["hours"], identity["seed"])
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
    """Synthesises beside the folder and moves the whole corpus there at the end."""
    _espeakng_loader()
    folder.parent.mkdir(parents=True, exist_ok=True)
    # A killed run leaves only this hidden folder, never half a corpus.
    with tempfile.TemporaryDirectory(prefix=".mini", dir=folder.parent) as scratch:
        corpus = Path(scratch, "corpus")
        corpus.mkdir()
        summary = _synthesise(corpus, identity, num_workers)
        corpus.replace(folder)
    return summary


def make_minispeech(folder, hours=0.5, seed=0, num_workers=None) -> dict:
    """Synthesises the minispeech corpus, unless the folder already holds it.

    The layout is LibriSpeech's, ``split/speaker/chapter/*.flac`` with a ``.trans.txt``
    per chapter, and beside it a ``.phones.tsv`` with the time of every phone.

    Arguments
    ---------
    folder : str or Path
        Where the corpus goes: new, empty, or the same corpus made before.
    hours : float
        Length of the whole corpus, at least 0.01.
    seed : int
        Seed of voices, sentences and noise; the same seed gives the same bytes.
    num_workers : int
        Speakers synthesised at a time; all cores by default.

    Returns
    -------
    seconds : dict
        Seconds of audio of each split: pretrain, train, dev and test.

    Raises
    ------
    ValueError
        If the hours are too few, or if the folder holds anything else.
    ImportError
        If the package espeakng-loader is missing.

    Example
    -------
    >>> folder = getfixture("tmp_path") / "minispeech"
    >>> list(make_minispeech(folder, hours=0.01))
    ['pretrain', 'train', 'dev', 'test']
    """
    if not MIN_HOURS <= hours < math.inf:
        raise ValueError(
            f"minispeech: hours is {hours}; ask for {MIN_HOURS} or more, so that "
            "every split gets a sentence."
        )
    identity = {"corpus": "minispeech", "version": VERSION}
    identity.update(seed=int(seed), hours=float(hours))
    folder = Path(folder).resolve()
    summary = _existing(folder, identity) or _build(folder, identity, num_workers)
    return summary["seconds"]
