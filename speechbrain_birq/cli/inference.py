"""``birq transcribe``, ``features`` and ``export``: a trained run at work."""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from speechbrain_birq.cli.commands import AddCommand, add_run
from speechbrain_birq.errors import BadInput


def add_commands(add: AddCommand) -> None:
    """Declare the commands and their arguments."""
    text = "audio files, of any rate and format"
    speech = add("transcribe", transcribe, "audio to text")
    add_run(speech)
    speech.add_argument("files", nargs="+", help=text)
    speech.add_argument("--decoding", choices=("greedy", "beam"), default="greedy")
    speech.add_argument("--chunk", type=int, help="stream in chunks of so many frames")
    speech.add_argument("--left", type=int, help="left chunks in sight; default: all")

    states = add("features", features, "audio to .pt files (T, H)")
    add_run(states)
    states.add_argument("files", nargs="+", help=text)
    states.add_argument("--layer", type=int, help="0 to K; default: K, normalized")
    states.add_argument("--output_folder", default="features")

    files = add("export", export, "run folder to files of SpeechBrain")
    add_run(files)
    files.add_argument("folder", help="a new folder")


# torch is imported in the functions, because `birq --help` does not need it.


def transcribe(arguments: argparse.Namespace) -> None:
    """Print a line a file: its name, a tab, its text."""
    if arguments.chunk is not None:
        return _stream(arguments)
    if arguments.left is not None:
        raise BadInput("--left is for streaming: give --chunk, too")

    from speechbrain_birq.inference import Recogniser

    recogniser = Recogniser(arguments.run, arguments.decoding, tuple(arguments.trust))
    _for_each(
        arguments.files, lambda file: print(f"{file}\t{recogniser.transcribe(file)}")
    )


def _stream(arguments):
    if arguments.decoding != "greedy":
        raise BadInput("--chunk decodes greedily: leave out --decoding beam")

    from speechbrain_birq.inference import StreamingRecogniser

    recogniser = StreamingRecogniser(
        arguments.run, arguments.chunk, arguments.left, tuple(arguments.trust)
    )

    def transcribe_in_pieces(file):
        pieces = recogniser.transcribe_in_pieces(file)
        print(f"{file}\t{next(pieces)}", end="", flush=True)
        for text in pieces:
            print(text, end="", flush=True)
        print()

    started = time.perf_counter()
    _for_each(arguments.files, transcribe_in_pieces)
    factor = (time.perf_counter() - started) / recogniser.seconds
    print(
        f"real-time factor {factor:.3f}, latency of the method "
        f"{recogniser.chunk_ms:g} ms (one chunk)",
        file=sys.stderr,
    )


def features(arguments: argparse.Namespace) -> None:
    """Write a matrix a file; print names and sizes."""
    folder = Path(arguments.output_folder)
    targets = _feature_files(arguments.files, folder)

    from speechbrain_birq.checkpoints.files import save_tensors
    from speechbrain_birq.inference import SpeechEncoder

    encoder = SpeechEncoder(arguments.run, tuple(arguments.trust))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"cannot write {folder} ({error.strerror})") from error

    def save(file):
        states = encoder.features(file, arguments.layer)
        # Cloned, because torch would save the complete tensor that a view belongs to.
        save_tensors(states.clone(), targets[file])
        print(f"{targets[file]}\t{states.shape[0]} x {states.shape[1]}")

    _for_each(arguments.files, save)


def _feature_files(files, folder):
    """audio -> file of its features, no two the same"""
    sources = {}
    for file in files:
        target = folder / f"{Path(file).stem}.pt"
        if target in sources:
            raise BadInput(
                f"{sources[target]} and {file} would both become {target}: run them "
                f"one by one, each with its own --output_folder"
            )
        sources[target] = file
    return {file: target for target, file in sources.items()}


def _for_each(files: Sequence[str], function: Callable[[str], None]) -> None:
    """Name a file that cannot be used and continue; end with status 1 if any was."""
    failed = 0
    for file in files:
        try:
            function(file)
        except BadInput as error:
            print(f"error: {error}", file=sys.stderr)
            failed += 1
    if failed:
        sys.stdout.flush()
        print(
            f"error: {failed} of {len(files)} files could not be used", file=sys.stderr
        )
        raise SystemExit(1)


def export(arguments: argparse.Namespace) -> None:
    """Write hyperparams.yaml and encoder.ckpt for SpeechBrain's own recipes."""
    from speechbrain_birq.inference.export import export_run

    export_run(arguments.run, arguments.folder, tuple(arguments.trust))
    print(f"{arguments.folder}: hyperparams.yaml, encoder.ckpt")
