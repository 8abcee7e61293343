"""``birq export``: a run's files for other toolkits."""

import argparse

from speechbrain_birq.cli.commands import AddCommand, add_run


def add_commands(add: AddCommand) -> None:
    """Declare the command and its arguments."""
    files = add("export", export, "run folder to SpeechBrain, transformers, s3prl")
    add_run(files)
    files.add_argument("folder", help="a new folder")
    text = "speechbrain, transformers or s3prl, or several of them; default: all"
    files.add_argument("--format", nargs="+", metavar="NAME", help=text)
    text = "of the weights, for the model card: apache-2.0, cc-by-4.0, ..."
    files.add_argument("--license", metavar="NAME", help=text)


# torch is imported in the functions, because `birq --help` does not need it.


def export(arguments: argparse.Namespace) -> None:
    """Write the files of each format, and a model card; print their names."""
    from speechbrain_birq.inference import FORMATS, export_run

    names = export_run(
        arguments.run,
        arguments.folder,
        tuple(arguments.trust),
        arguments.format or FORMATS,
        arguments.license,
    )
    print(f"{arguments.folder}: {', '.join(names)}")
