"""``birq features``: the layers of a corpus as files."""

import argparse
import time

from speechbrain_birq.cli.commands import AddCommand, add_device, add_run
from speechbrain_birq.cli.progress import for_each, show
from speechbrain_birq.errors import BadInput


def add_commands(add: AddCommand) -> None:
    """Declare the command and its arguments."""
    states = add("features", features, "audio to files of features (T, H)")
    add_run(states)
    states.add_argument(
        "files", nargs="+", help="audio of any rate and format, or folders of it"
    )
    text = "0 to K, several as 3,7, or all; default: K, normalized"
    states.add_argument("--layer", type=_layer, metavar="LAYER", help=text)
    text = "folder of the files; below it the tree of a folder that is given"
    states.add_argument("--output_folder", default="features", help=text)
    states.add_argument("--format", choices=("pt", "safetensors", "npy"), default="pt")
    text = "of the stored numbers; float16 halves the files"
    states.add_argument(
        "--dtype", choices=("float32", "float16"), default="float32", help=text
    )
    add_device(states)


def _layer(text):
    if text == "all":
        return text
    try:
        numbers = [int(number) for number in text.split(",")]
    except ValueError:
        # What argparse says of a ValueError names this function.
        raise argparse.ArgumentTypeError(
            f"{text!r} is no layer: give a number, several as 3,7, or all"
        ) from None
    return numbers if "," in text else numbers[0]


# torch is imported in the functions, because `birq --help` does not need it.


def features(arguments: argparse.Namespace) -> None:
    """Write a file a recording; print its name and size. Files that exist are kept."""
    from speechbrain_birq.inference.audio_files import audio_files, output_files

    found = audio_files(arguments.files)
    suffix = f".{arguments.format}"
    targets = output_files(found, arguments.output_folder, suffix)

    from speechbrain_birq.inference import SpeechEncoder
    from speechbrain_birq.inference.device import moved
    from speechbrain_birq.inference.feature_files import (
        claim_folder,
        feature_settings,
        is_done,
    )

    encoder = SpeechEncoder(arguments.run, trust=tuple(arguments.trust))
    moved(encoder, arguments.device)
    settings = feature_settings(
        encoder, arguments.layer, arguments.format, arguments.dtype
    )
    claim_folder(arguments.output_folder, settings)
    left = {file: path for file, path in targets.items() if not is_done(file, path)}
    if len(left) < len(targets):
        show(f"{len(targets) - len(left)} of {len(targets)} files are done already")
    _write_all(encoder, left, arguments)


def _write_all(encoder, targets, arguments):
    """Write the files that are left, and say how fast that was."""
    from speechbrain_birq.inference.feature_files import write_features

    started, seconds = time.perf_counter(), 0.0

    def save(file, states):
        nonlocal seconds
        target = targets[file]
        try:
            write_features(states, target, arguments.format, arguments.dtype)
        except OSError as error:
            reason = error.strerror or error
            raise BadInput(f"cannot write {target} ({reason})") from error
        seconds += states.shape[-2] * encoder.frontend.frame_ms / 1000
        show(f"{target}\t{' x '.join(map(str, states.shape))}")

    left = list(targets)
    outcomes = encoder.features_as_completed(
        left, arguments.layer, arguments.batch_seconds
    )
    try:
        for_each(left, outcomes, save)
    finally:
        took = time.perf_counter() - started
        if seconds:
            show(
                f"{arguments.output_folder}: {seconds / 3600:.2f} h of audio in "
                f"{took:.0f} s, {seconds / took:.0f} times real time"
            )
