"""What the groups of commands share: how a command and a run folder are declared."""

import argparse
import os
import shlex
import sys
from collections.abc import Callable

Command = Callable[[argparse.Namespace], None]
AddCommand = Callable[[str, Command, str], argparse.ArgumentParser]

LOADING = "loading PyTorch and SpeechBrain ..."


def add_run(command: argparse.ArgumentParser, name: str = "run") -> None:
    """Declare the argument for a run folder and the option ``--trust``."""
    command.add_argument(name, help="run folder: the output_folder of a training")
    text = "package whose classes the run folder may build; repeat it for several"
    command.add_argument(
        "--trust", action="append", default=[], metavar="PACKAGE", help=text
    )


def say_next(*words: str) -> None:
    """Print the command that uses what a command has made.

    Example
    -------
    >>> say_next("birq", "pretrain", "birq_tiny", "--data_folder", "my corpus")
    next: birq pretrain birq_tiny --data_folder 'my corpus'
    """
    print(f"next: {shlex.join(words)}")


def say_loading() -> None:
    """Print to stderr why nothing happens yet; call it before the first heavy import.

    PyTorch and SpeechBrain take 3 to 8 s to import on two cores, and a minute if the
    disk is slow and the files are not in memory. Under torchrun only rank 0 prints.
    """
    if "torch" not in sys.modules and os.environ.get("RANK", "0") == "0":
        print(LOADING, file=sys.stderr, flush=True)


def add_device(command: argparse.ArgumentParser) -> None:
    """Declare where a command computes, and how much at once."""
    command.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ...")
    text = "most seconds of audio in a batch, padding included"
    command.add_argument("--batch_seconds", type=float, default=200, help=text)
