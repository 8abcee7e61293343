"""``birq compare``, ``phones`` and ``diagnose``: how good a run is."""

import argparse
from pathlib import Path

from speechbrain_birq.cli.commands import AddCommand, add_run


def add_commands(add: AddCommand) -> None:
    """Declare the commands and their arguments."""
    runs = add("compare", compare, "difference of two error rates, with its interval")
    runs.add_argument("first", help="run folder of a fine-tuning")
    runs.add_argument("second", help="run folder of a fine-tuning")
    runs.add_argument("--split", default="test")
    runs.add_argument("--unit", choices=("cer", "wer"), default="cer")

    layers = add("phones", phones, "accuracy of a phone classifier on each layer")
    add_run(layers)
    layers.add_argument("corpus", help="made by `birq minispeech`")
    layers.add_argument("--train_split", default="pretrain")
    layers.add_argument("--test_split", default="test")

    labels = add("diagnose", diagnose, "how good labels are, without fine-tuning")
    add_run(labels)
    labels.add_argument("--data_folder", required=True, help="folder of the splits")
    labels.add_argument("--split", default="dev")
    text = "fine-tuned run folder, to align texts if the corpus has no exact phones"
    labels.add_argument("--alignment", metavar="CTC_RUN", help=text)
    labels.add_argument("--output_folder", help="default: diagnosis in the run folder")


# torch is imported in the functions, because `birq --help` does not need it.


def compare(arguments: argparse.Namespace) -> None:
    """Print the error rates of two runs and the interval of their difference."""
    from speechbrain_birq.metrics import compare_runs, interval_text

    first, second, low, high = compare_runs(
        arguments.first, arguments.second, arguments.split, arguments.unit
    )
    print(
        f"{arguments.unit.upper()} on {arguments.split}: "
        f"{first:.2f} % against {second:.2f} %, difference {first - second:+.2f} "
        f"(95 % interval {interval_text(low, high, sign='+')})"
    )


def phones(arguments: argparse.Namespace) -> None:
    """Print a line a layer: how many phones a linear classifier gets right."""
    from speechbrain_birq.diagnostics.phones import accuracy_by_layer

    train, test = (
        Path(arguments.corpus, split)
        for split in (arguments.train_split, arguments.test_split)
    )
    accuracy = accuracy_by_layer(arguments.run, train, test, tuple(arguments.trust))
    print(f"{'most frequent phone':20}{100 * accuracy.most_frequent:5.1f} %")
    print(f"{'stacked frames':20}{100 * accuracy.frames:5.1f} %")
    for index, share in enumerate(accuracy.layers):
        name = f"layer {index}" if index else "input projection"
        print(f"{name:20}{100 * share:5.1f} %")


def diagnose(arguments: argparse.Namespace) -> None:
    """Print the table of a run's labels; the figures go to its folder."""
    from speechbrain_birq.diagnostics.diagnose import diagnose_run
    from speechbrain_birq.diagnostics.table import table

    diagnosis = diagnose_run(
        arguments.run,
        arguments.data_folder,
        arguments.split,
        alignment=arguments.alignment,
        output_folder=arguments.output_folder,
        trust=tuple(arguments.trust),
    )
    print(table(diagnosis))
