"""``birq config``: the experiment that a command line describes, as one file."""

import argparse

from speechbrain_birq.cli.commands import AddCommand
from speechbrain_birq.cli.training import add_experiment


def add_commands(add: AddCommand) -> None:
    """Declare the command; its arguments are those of the recipes' scripts."""
    add_experiment(add("config", config, "an experiment as one flat file"))


def config(arguments: argparse.Namespace) -> None:
    """Print the flat file: deltas, includes and the command line are in it."""
    from speechbrain_birq.config import configure, parse_arguments
    from speechbrain_birq.config.tree import dump
    from speechbrain_birq.inference.start import settle_model

    path, _, overrides = parse_arguments([arguments.file, *arguments.words])
    print(dump(configure(path, overrides, start=settle_model)), end="")
