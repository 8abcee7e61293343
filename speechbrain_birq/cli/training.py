"""``birq pretrain`` and ``birq finetune``: the scripts of recipes/LibriSpeech."""

import argparse

from speechbrain_birq.cli.commands import AddCommand, say_loading


def add_commands(add: AddCommand) -> None:
    """Declare the commands; their arguments are those of the recipes' scripts."""
    for name, function, text in (
        ("pretrain", pretrain, "pretrain as a YAML file says"),
        ("finetune", finetune, "fine-tune with CTC and score, as a YAML file says"),
    ):
        add_experiment(add(name, function, text))


def add_experiment(command: argparse.ArgumentParser) -> None:
    """Declare a YAML file and the values of its keys."""
    command.add_argument(
        "file", help="YAML file, or the name of one that comes with the package"
    )
    command.add_argument(
        "words",
        nargs=argparse.REMAINDER,
        help="--key value ..., and SpeechBrain's run options",
    )


# torch is imported in the functions, because `birq --help` does not need it.


def pretrain(arguments: argparse.Namespace) -> None:
    """Do what recipes/LibriSpeech/pretrain.py does."""
    say_loading()
    from speechbrain_birq.data.corpora.librispeech import prepare_librispeech
    from speechbrain_birq.experiment import pretrain

    pretrain(prepare_librispeech, [arguments.file, *arguments.words])


def finetune(arguments: argparse.Namespace) -> None:
    """Do what recipes/LibriSpeech/finetune.py does."""
    say_loading()
    from speechbrain_birq.data.corpora.librilight import prepare_librilight
    from speechbrain_birq.experiment import finetune

    finetune(prepare_librilight, [arguments.file, *arguments.words])
