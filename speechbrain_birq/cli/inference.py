"""``birq export``: a run's files for other toolkits."""

import argparse

from speechbrain_birq.cli.commands import AddCommand, add_run


def add_commands(add: AddCommand) -> None:
    """Declare the command and its arguments."""
    files = add("export", export, "run folder to files of SpeechBrain")
    add_run(files)
    files.add_argument("folder", help="a new folder")


# torch is imported in the functions, because `birq --help` does not need it.


def export(arguments: argparse.Namespace) -> None:
    """Write hyperparams.yaml and encoder.ckpt for SpeechBrain's own recipes."""
    from speechbrain_birq.inference.export import export_run

    export_run(arguments.run, arguments.folder, tuple(arguments.trust))
    print(f"{arguments.folder}: hyperparams.yaml, encoder.ckpt")
