"""What the groups of commands share: how a command and a run folder are declared."""

import argparse
from collections.abc import Callable

Command = Callable[[argparse.Namespace], None]
AddCommand = Callable[[str, Command, str], argparse.ArgumentParser]


def add_run(command: argparse.ArgumentParser, name: str = "run") -> None:
    """Declare the argument for a run folder and the option ``--trust``."""
    command.add_argument(name, help="run folder: the output_folder of a training")
    text = "package whose classes the run folder may build; repeat it for several"
    command.add_argument(
        "--trust", action="append", default=[], metavar="PACKAGE", help=text
    )
