"""The command ``birq``: corpora, demo, inference and comparisons."""

import argparse
import sys
import time
from pathlib import Path

from speechbrain_birq.cli.config import add_config, config
from speechbrain_birq.cli.language_model import add_ngram, add_tune_lm, ngram, tune_lm
from speechbrain_birq.errors import BadInput, one_sentence

EXAMPLES = """examples:
  birq demo                                   the whole way, in minutes, no download
  birq minispeech corpus --hours 0.5 --seed 0 a synthetic corpus
  birq config hparams/birq_large.yaml --lr 1e-3     one file that can be run
  birq shard /data/LibriSpeech shards         large files for large corpora
  birq transcribe results/ctc_tiny a.wav      text of recordings
  birq transcribe results/ctc_tiny a.wav --chunk 16 --left 4    while they are heard
  birq features results/birq_tiny a.wav --layer 3 --output_folder features
  birq export results/birq_tiny exported      for SpeechBrain's own recipes
  birq compare results/a results/b --split test
  birq ngram ami.arpa /data/ami_segments/ihm-train      language model of transcripts
  birq tune-lm results/ctc_ami --lm_path ami.arpa --split ihm-dev
  birq phones results/birq_tiny corpus        phones that each layer tells apart
  birq diagnose results/birq_tiny --data_folder corpus --split dev     label quality
"""


@one_sentence
def main(argv=None) -> None:
    """Run one of the commands; a user's mistake ends with one sentence and status 2."""
    arguments = _parser().parse_args(argv)
    arguments.command(arguments)


def _parser():
    parser = argparse.ArgumentParser(
        prog="birq",
        description="BiRQ and BEST-RQ in SpeechBrain.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = _command(commands, "demo", _demo, "pretrain, fine-tune, score: one table")
    demo.add_argument("folder", nargs="?", default="demo", help="where all of it goes")
    demo.add_argument("--steps", type=int, default=400, help="pretraining steps an arm")
    demo.add_argument("--epochs", type=int, default=16, help="of fine-tuning")
    demo.add_argument("--seed", type=int, default=0)

    add_config(_command(commands, "config", config, "an experiment as one flat file"))

    corpus = _command(commands, "minispeech", _minispeech, "make a synthetic corpus")
    corpus.add_argument("folder")
    corpus.add_argument("--hours", type=float, default=0.5)
    corpus.add_argument("--seed", type=int, default=0)
    text = "high: vocal tract, room, noise and microphone differ, too"
    corpus.add_argument("--variety", choices=("low", "high"), default="low", help=text)
    text = "share of the hours, such as train=0.03 test=0.1"
    corpus.add_argument("--shares", nargs="+", type=_share, default=[], help=text)

    shard = _command(commands, "shard", _shard, "a corpus to shards: few large files")
    shard.add_argument("source", help="manifest (CSV), or folder above the splits")
    shard.add_argument("folder", help="where <split>/index.json and the rest go")
    shard.add_argument("--split", nargs="+", help="of a folder; default: all in it")
    shard.add_argument("--shard_hours", type=float, default=1.0)

    transcribe = _run_command(commands, "transcribe", _transcribe, "audio to text")
    transcribe.add_argument("--decoding", choices=("greedy", "beam"), default="greedy")
    transcribe.add_argument("--chunk", type=int, help="stream in chunks of such frames")
    transcribe.add_argument("--left", type=int, help="chunks seen; default: all")

    features = _run_command(
        commands, "features", _features, "audio to .pt files (T, H)"
    )
    features.add_argument("--layer", type=int, help="0 to K; default: the last, normed")
    features.add_argument("--output_folder", default="features")

    export = _command(commands, "export", _export, "run folder to SpeechBrain's files")
    export.add_argument("run", help="run folder: the output_folder of a training")
    export.add_argument("folder", help="a new folder")
    export.add_argument("--trust", action="append", default=[], metavar="PACKAGE")

    compare = _command(commands, "compare", _compare, "difference with its interval")
    compare.add_argument("first", help="run folder")
    compare.add_argument("second", help="run folder")
    compare.add_argument("--split", default="test")
    compare.add_argument("--unit", choices=("cer", "wer"), default="cer")

    add_ngram(_command(commands, "ngram", ngram, "transcripts to a language model"))
    text = "the language model's best weights"
    add_tune_lm(_command(commands, "tune-lm", tune_lm, text))

    phones = _command(commands, "phones", _phones, "what each layer knows of phones")
    phones.add_argument("run", help="run folder: the output_folder of a training")
    phones.add_argument("corpus", help="made by `birq minispeech`")
    phones.add_argument("--train_split", default="pretrain")
    phones.add_argument("--test_split", default="test")
    phones.add_argument("--trust", action="append", default=[], metavar="PACKAGE")

    text = "how good labels are, without fine-tuning"
    diagnose = _command(commands, "diagnose", _diagnose, text)
    diagnose.add_argument("run", help="run folder of a pretraining")
    diagnose.add_argument("--data_folder", required=True, help="above the splits")
    diagnose.add_argument("--split", default="dev")
    text = "fine-tuned run folder, to align texts where there are no exact phones"
    diagnose.add_argument("--alignment", metavar="CTC_RUN", help=text)
    diagnose.add_argument("--output_folder", help="default: diagnosis in the run")
    diagnose.add_argument("--trust", action="append", default=[], metavar="PACKAGE")
    return parser


def _command(commands, name, function, text):
    command = commands.add_parser(name, help=text, description=text)
    command.set_defaults(command=function)
    return command


def _run_command(commands, name, function, text):
    command = _command(commands, name, function, text)
    command.add_argument("run", help="run folder: the output_folder of a training")
    command.add_argument("files", nargs="+", help="audio, any rate and format")
    command.add_argument("--trust", action="append", default=[], metavar="PACKAGE")
    return command


# Imports wait in the functions: `birq --help` should not load torch.


def _demo(arguments):
    from speechbrain_birq.cli.demo import run_demo

    run_demo(Path(arguments.folder), arguments.steps, arguments.epochs, arguments.seed)


def _share(text):
    split, _, share = text.partition("=")
    return split, float(share)


def _minispeech(arguments):
    from speechbrain_birq.data.corpora.minispeech.corpus import make_minispeech

    try:
        seconds = make_minispeech(
            arguments.folder,
            arguments.hours,
            arguments.seed,
            variety=arguments.variety,
            shares=dict(arguments.shares),
        )
    except (ValueError, ImportError, OSError) as error:
        raise BadInput(str(error)) from error
    for split, length in seconds.items():
        print(f"{split:10} {length / 60:6.1f} min")


def _shard(arguments):
    if not arguments.shard_hours > 0:
        raise BadInput(f"--shard_hours {arguments.shard_hours:g}: give hours above 0")

    from speechbrain_birq.data.shards.convert import shard_corpus

    try:
        summaries = shard_corpus(
            arguments.source,
            arguments.folder,
            splits=arguments.split,
            shard_hours=arguments.shard_hours,
        )
    except OSError as error:
        raise BadInput(
            f"cannot write {error.filename or arguments.folder} ({error.strerror}): "
            f"free the disk or give another folder, then the same command again"
        ) from error
    for split, done in summaries.items():
        print(
            f"{split}: {done.shards} shards, {done.utterances} utterances, "
            f"{done.seconds / 3600:.2f} h, {done.skipped} skipped"
        )


def _transcribe(arguments):
    if arguments.chunk is not None:
        return _stream(arguments)
    if arguments.left is not None:
        raise BadInput("--left is for streaming: give --chunk, too")

    from speechbrain_birq.inference import Recogniser

    recogniser = Recogniser(arguments.run, arguments.decoding, tuple(arguments.trust))
    _each_file(
        arguments.files, lambda file: print(f"{file}\t{recogniser.transcribe(file)}")
    )


def _stream(arguments):
    if arguments.decoding != "greedy":
        raise BadInput("--chunk decodes greedily: leave out --decoding beam")

    from speechbrain_birq.inference import StreamingRecogniser

    recogniser = StreamingRecogniser(
        arguments.run, arguments.chunk, arguments.left, tuple(arguments.trust)
    )

    def transcribe(file):
        pieces = recogniser.transcribe_in_pieces(file)
        print(f"{file}\t{next(pieces)}", end="", flush=True)
        for text in pieces:
            print(text, end="", flush=True)
        print()

    started = time.perf_counter()
    _each_file(arguments.files, transcribe)
    factor = (time.perf_counter() - started) / recogniser.seconds
    print(
        f"real-time factor {factor:.3f}, latency of the method "
        f"{recogniser.chunk_ms:g} ms (one chunk)",
        file=sys.stderr,
    )


def _features(arguments):
    folder = Path(arguments.output_folder)
    targets = _feature_files(arguments.files, folder)

    import torch

    from speechbrain_birq.inference import SpeechEncoder

    encoder = SpeechEncoder(arguments.run, tuple(arguments.trust))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"cannot write {folder} ({error.strerror})") from error

    def save(file):
        features = encoder.features(file, arguments.layer)
        torch.save(features.clone(), targets[file])
        print(f"{targets[file]}\t{features.shape[0]} x {features.shape[1]}")

    _each_file(arguments.files, save)


def _feature_files(files, folder):
    """audio -> file of its features, no two the same"""
    sources = {}
    for file in files:
        target = folder / f"{Path(file).stem}.pt"
        if target in sources:
            raise BadInput(
                f"{sources[target]} and {file} would both become {target}: do them one "
                f"by one, each with its own --output_folder"
            )
        sources[target] = file
    return {file: target for target, file in sources.items()}


def _each_file(files, function):
    """A bad file is named; the others are done; the exit status tells."""
    failed = 0
    for file in files:
        try:
            function(file)
        except BadInput as error:
            print(f"error: {error}", file=sys.stderr)
            failed += 1
    if failed:
        raise BadInput(f"{failed} of {len(files)} files could not be used")


def _export(arguments):
    from speechbrain_birq.inference.export import export_run

    export_run(arguments.run, arguments.folder, tuple(arguments.trust))
    print(f"{arguments.folder}: hyperparams.yaml, encoder.ckpt")


def _compare(arguments):
    from speechbrain_birq.metrics import compare_runs, interval_text

    first, second, low, high = compare_runs(
        arguments.first, arguments.second, arguments.split, arguments.unit
    )
    print(
        f"{arguments.unit.upper()} on {arguments.split}: "
        f"{first:.2f} % against {second:.2f} %, difference {first - second:+.2f} "
        f"(95 % interval {interval_text(low, high, sign='+')})"
    )


def _phones(arguments):
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


def _diagnose(arguments):
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
