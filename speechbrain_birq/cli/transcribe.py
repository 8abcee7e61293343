"""``birq transcribe``: audio to text, with times, confidences and hypotheses."""

import argparse
import json
import sys
import time

from speechbrain_birq.cli.commands import AddCommand, add_device, add_run
from speechbrain_birq.cli.progress import end_with_status, for_each, show
from speechbrain_birq.errors import BadInput

# Options that streaming has not.
OF_BATCHES = ("json", "nbest", "lm", "decoding", "alpha", "beta", "beam_size")


def add_commands(add: AddCommand) -> None:
    """Declare the command and its arguments."""
    speech = add("transcribe", transcribe, "audio to text")
    add_run(speech)
    speech.add_argument(
        "files", nargs="+", help="audio of any rate and format, or folders of it"
    )
    text = "default: greedy, or beam if --lm or --nbest is given"
    speech.add_argument("--decoding", choices=("greedy", "beam"), help=text)
    text = "language model of words, ARPA or kenlm's binary; needs the extra lm"
    speech.add_argument("--lm", metavar="FILE", help=text)
    text = "weight of the language model (0.5); `birq tune-lm` finds good ones"
    speech.add_argument("--alpha", type=float, help=text)
    text = "weight of the number of words (1.5)"
    speech.add_argument("--beta", type=float, help=text)
    speech.add_argument("--beam_size", type=int, help="hypotheses of the beam (100)")
    text = "so many hypotheses of each file, for --json"
    speech.add_argument("--nbest", type=int, metavar="N", help=text)
    text = "an object a line: file, text, confidence, words, nbest"
    speech.add_argument("--json", action="store_true", help=text)
    add_device(speech)
    speech.add_argument("--chunk", type=int, help="stream in chunks of so many frames")
    speech.add_argument("--left", type=int, help="left chunks in sight; default: all")


# torch is imported in the functions, because `birq --help` does not need it.


def transcribe(arguments: argparse.Namespace) -> None:
    """Print a line a file: its name, a tab, its text; or an object of JSON."""
    if arguments.chunk is not None:
        return _stream(arguments)
    if arguments.left is not None:
        raise BadInput("--left is for streaming: give --chunk, too")
    if arguments.nbest is not None and not arguments.json:
        raise BadInput("--nbest shows more than one text a file: add --json")

    from speechbrain_birq.inference import Recogniser
    from speechbrain_birq.inference.audio_files import audio_files
    from speechbrain_birq.inference.device import moved

    files = list(audio_files(arguments.files))
    searched = arguments.lm is not None or arguments.nbest is not None
    decoding = arguments.decoding or ("beam" if searched else "greedy")
    recogniser = Recogniser(
        arguments.run,
        decoding=decoding,
        trust=tuple(arguments.trust),
        lm_path=arguments.lm,
        num_best=1 if arguments.nbest is None else arguments.nbest,
        **_weights(arguments, decoding),
    )
    moved(recogniser, arguments.device)
    line = _object if arguments.json else _line
    outcomes = recogniser.transcripts_as_completed(files, arguments.batch_seconds)
    for_each(
        files,
        _in_order(outcomes),
        lambda file, transcript: show(line(file, transcript)),
    )


def _weights(arguments, decoding):
    """Settings of the search that were given; one that nothing would use is refused."""
    needs = {"alpha": "--lm", "beta": "--lm", "beam_size": "--decoding beam"}
    given = {name: getattr(arguments, name) for name in needs}
    used = {"--lm": arguments.lm is not None, "--decoding beam": decoding == "beam"}
    for name, value in given.items():
        if value is not None and not used[needs[name]]:
            raise BadInput(f"--{name} has no use without {needs[name]}: add that, too")
    return {name: value for name, value in given.items() if value is not None}


def _in_order(outcomes):
    """Yield outcomes by their index; those that came too early wait."""
    waiting, due = {}, 0
    for outcome in outcomes:
        waiting[outcome.index] = outcome
        while due in waiting:
            yield waiting.pop(due)
            due += 1


def _line(file, transcript):
    return f"{file}\t{transcript.text}"


def _object(file, transcript):
    numbers = [
        word._asdict()
        | {
            "start": round(word.start, 3),
            "end": round(word.end, 3),
            "confidence": round(word.confidence, 4),
        }
        for word in transcript.words
    ]
    found = {
        "file": file,
        "text": transcript.text,
        "confidence": round(transcript.confidence, 4),
        "words": numbers,
        "nbest": [
            {"text": each.text, "score": round(each.score, 3)}
            for each in transcript.nbest
        ],
    }
    return json.dumps(found, ensure_ascii=False)


def _stream(arguments):
    for name in OF_BATCHES:
        given = getattr(arguments, name)
        if given is not None and given is not False and given != "greedy":
            raise BadInput(f"--chunk decodes greedily, to text: leave out --{name}")

    from speechbrain_birq.inference import StreamingRecogniser
    from speechbrain_birq.inference.audio_files import audio_files
    from speechbrain_birq.inference.device import moved

    files = list(audio_files(arguments.files))
    recogniser = StreamingRecogniser(
        arguments.run,
        chunk=arguments.chunk,
        left=arguments.left,
        trust=tuple(arguments.trust),
    )
    moved(recogniser, arguments.device)
    started, failed = time.perf_counter(), 0
    for file in files:
        try:
            _stream_one(recogniser, file)
        except BadInput as error:
            print(f"error: {error}", file=sys.stderr)
            failed += 1
    end_with_status(failed, len(files))
    factor = (time.perf_counter() - started) / recogniser.seconds
    print(
        f"real-time factor {factor:.3f}, latency of the method "
        f"{recogniser.chunk_ms:g} ms (one chunk)",
        file=sys.stderr,
    )


def _stream_one(recogniser, file):
    pieces = recogniser.transcribe_in_pieces(file)
    print(f"{file}\t{next(pieces)}", end="", flush=True)
    for text in pieces:
        print(text, end="", flush=True)
    print()
