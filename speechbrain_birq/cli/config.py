"""``birq config``: the experiment that a command line describes, as one file."""

import argparse

from speechbrain_birq.cli.commands import AddCommand


def add_commands(add: AddCommand) -> None:
    """Declare the command; its arguments are those of the recipes' scripts."""
    command = add("config", config, "an experiment as one flat file")
    command.add_argument("file", help="YAML file, such as hparams/birq_large.yaml")
    command.add_argument(
        "words", nargs=argparse.REMAINDER, help="--key value ..., as for the recipes"
    )


def config(arguments: argparse.Namespace) -> None:
    """Print the flat file: deltas, includes and the command line are in it."""
    from speechbrain_birq.checkpoints.run_folder import read_architecture
    from speechbrain_birq.config import configure, parse_arguments
    from speechbrain_birq.config.tree import dump

    path, _, overrides = parse_arguments([arguments.file, *arguments.words])
    print(dump(configure(path, overrides, architecture=read_architecture)), end="")
