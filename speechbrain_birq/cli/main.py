"""The command ``birq``: its parser, and the groups of its commands."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from speechbrain_birq import __version__
from speechbrain_birq.cli import (
    config,
    corpora,
    evaluation,
    features,
    inference,
    language_model,
    training,
    transcribe,
)
from speechbrain_birq.cli.commands import say_loading
from speechbrain_birq.errors import one_sentence

EXAMPLES = """examples:
  birq demo                                   all steps in minutes, no download
  birq minispeech corpus --hours 0.5 --seed 0 a synthetic corpus
  birq pretrain birq_tiny --data_folder corpus      as recipes/LibriSpeech/pretrain.py
  birq finetune ctc_tiny --data_folder corpus --pretrained results/birq_tiny
  birq config birq_large --lr 1e-3            one file that can be run
  birq shard /data/LibriSpeech shards         large files for large corpora
  birq transcribe results/ctc_tiny a.wav      text of recordings
  birq transcribe results/ctc_tiny a.wav --chunk 16 --left 4    as audio arrives
  birq transcribe results/ctc_tiny folder --json      words, times, confidences
  birq features results/birq_tiny folder --layer 3 --output_folder features
  birq export results/birq_tiny exported      for SpeechBrain, transformers, s3prl
  birq compare results/a results/b --split test
  birq ngram ami.arpa /data/ami_segments/ihm-train      language model of transcripts
  birq tune-lm results/ctc_ami --lm_path ami.arpa --split ihm-dev
  birq phones results/birq_tiny corpus        accuracy of phones by layer
  birq diagnose results/birq_tiny --data_folder corpus --split dev     label quality
"""


@one_sentence
def main(argv: Sequence[str] | None = None) -> None:
    """Run one of the commands.

    Arguments
    ---------
    argv : sequence of str, optional
        ``sys.argv[1:]`` by default.
    """
    arguments = make_parser().parse_args(argv)
    arguments.command(arguments)


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of all commands; torch is not imported."""
    parser = argparse.ArgumentParser(
        prog="birq",
        description="BiRQ and BEST-RQ in SpeechBrain.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"birq {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name, function, text):
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(command=function)
        return command

    demo = add("demo", _demo, "pretrain, fine-tune, score: one table")
    demo.add_argument("folder", nargs="?", default="demo", help="for corpus and runs")
    demo.add_argument("--hours", type=float, default=4.0, help="size of the corpus")
    demo.add_argument("--steps", type=int, default=400, help="of each pretraining")
    demo.add_argument("--epochs", type=int, default=24, help="of each fine-tuning")
    demo.add_argument("--seed", type=int, default=0, help="of every run")
    groups = (training, config, corpora, transcribe, features, inference, evaluation)
    for group in (*groups, language_model):
        group.add_commands(add)
    return parser


def _demo(arguments):
    say_loading()
    from speechbrain_birq.cli.demo import run_demo  # imports torch

    run_demo(
        Path(arguments.folder),
        hours=arguments.hours,
        steps=arguments.steps,
        epochs=arguments.epochs,
        seed=arguments.seed,
    )
