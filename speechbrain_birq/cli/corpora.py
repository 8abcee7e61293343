"""``birq minispeech`` and ``birq shard``: corpora."""

import argparse

from speechbrain_birq.cli.commands import AddCommand, say_next
from speechbrain_birq.errors import BadInput


def add_commands(add: AddCommand) -> None:
    """Declare the commands and their arguments."""
    corpus = add("minispeech", minispeech, "make a synthetic corpus")
    corpus.add_argument("folder")
    corpus.add_argument("--hours", type=float, default=0.5)
    corpus.add_argument("--seed", type=int, default=0)
    text = "high: vocal tract, room, noise and microphone differ, too"
    corpus.add_argument("--variety", choices=("low", "high"), default="low", help=text)
    text = "share of the hours, such as train=0.03 test=0.1"
    corpus.add_argument("--shares", nargs="+", type=_share, default=[], help=text)

    shards = add("shard", shard, "write a corpus as shards, which are few large files")
    text = "table (CSV, TSV, JSONL), dataset, or the folder of the splits"
    shards.add_argument("source", help=text)
    shards.add_argument("folder", help="for <split>/index.json and the shards")
    shards.add_argument("--split", nargs="+", help="splits; default: all in the folder")
    shards.add_argument("--data_folder", help="of a table's files, if elsewhere")
    shards.add_argument("--shard_hours", type=float, default=1.0)


def _share(text):
    split, _, share = text.partition("=")
    return split, float(share)


# torch is imported in the functions, because `birq --help` does not need it.


def minispeech(arguments: argparse.Namespace) -> None:
    """Make the synthetic corpus; print the minutes of each split."""
    from speechbrain_birq.data.corpora.minispeech.corpus import make_minispeech

    try:
        seconds = make_minispeech(
            arguments.folder,
            arguments.hours,
            arguments.seed,
            variety=arguments.variety,
            shares=dict(arguments.shares),
        )
    except (ValueError, ImportError) as error:
        raise BadInput(str(error)) from error
    for split, length in seconds.items():
        print(f"{split:10} {length / 60:6.1f} min")
    print(f"{arguments.folder}: finished")
    say_next("birq", "pretrain", "birq_tiny", "--data_folder", arguments.folder)


def shard(arguments: argparse.Namespace) -> None:
    """Write shards; print what each split holds."""
    if not arguments.shard_hours > 0:
        raise BadInput(f"--shard_hours {arguments.shard_hours:g}: give hours above 0")

    from speechbrain_birq.data.shards.convert import shard_corpus

    try:
        summaries = shard_corpus(
            arguments.source,
            arguments.folder,
            splits=arguments.split,
            data_folder=arguments.data_folder,
            shard_hours=arguments.shard_hours,
        )
    except OSError as error:
        raise BadInput(
            f"cannot write {error.filename or arguments.folder} ({error.strerror}): "
            f"free the disk or give another folder, then run the same command again"
        ) from error
    for split, done in summaries.items():
        print(
            f"{split}: {done.shards} shards, {done.utterances} utterances, "
            f"{done.seconds / 3600:.2f} h, {done.skipped} skipped"
        )
    print(f"{arguments.folder}: finished")
    say_next("birq", "pretrain", "birq_base", "--data_folder", arguments.folder)
