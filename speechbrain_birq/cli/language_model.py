"""``birq ngram`` and ``birq tune-lm``: language models for beam search."""

import argparse

from speechbrain_birq.cli.commands import AddCommand, add_run
from speechbrain_birq.errors import BadInput


def add_commands(add: AddCommand) -> None:
    """Declare the commands and their arguments."""
    model = add("ngram", ngram, "transcripts to a language model")
    model.add_argument("arpa", help="file to write")
    text = "tables, folders, text files; text_case and drop_characters are not applied"
    model.add_argument("texts", nargs="+", help=text)
    model.add_argument("--order", type=int, default=4)

    weights = add("tune-lm", tune_lm, "the language model's best weights")
    add_run(weights)
    weights.add_argument("--lm_path", required=True, help="ARPA or kenlm binary")
    weights.add_argument("--split", default="dev-clean", help="never one you report on")
    for name, default in (
        ("--alphas", [0.25, 0.5, 0.75, 1.0, 1.5]),
        ("--betas", [0.0, 1.0, 1.5, 2.0, 3.0]),
    ):
        weights.add_argument(name, type=float, nargs="+", default=default)
    weights.add_argument("--beam_size", type=int, default=100)
    weights.add_argument("--utterances", type=int, default=500, help="at most so many")


# torch is imported in the functions, because `birq --help` does not need it.


def ngram(arguments: argparse.Namespace) -> None:
    """Estimate an n-gram and write it as ARPA."""
    if not 2 <= arguments.order <= 6:
        raise BadInput(f"--order {arguments.order}: kenlm takes 2 to 6")

    from speechbrain_birq.decoding.ngram import check_target, estimate, write_arpa
    from speechbrain_birq.decoding.sentences import read_sentences

    check_target(arguments.arpa)
    sentences = read_sentences(arguments.texts)
    tables = estimate(sentences, arguments.order)
    try:
        write_arpa(arguments.arpa, tables)
    except OSError as error:
        raise BadInput(f"cannot write {arguments.arpa} ({error.strerror})") from error
    counts = ", ".join(f"{len(table)} {n}-grams" for n, table in enumerate(tables, 1))
    print(f"{arguments.arpa}: {len(sentences)} sentences, {counts}")


def tune_lm(arguments: argparse.Namespace) -> None:
    """Print the error rates of a grid of weights; keep the best in results.json."""
    for name in ("beam_size", "utterances"):
        if getattr(arguments, name) < 1:
            raise BadInput(f"--{name} {getattr(arguments, name)}: give 1 or more")

    from speechbrain_birq.brains.run_log import add_result
    from speechbrain_birq.checkpoints.run_folder import TUNED
    from speechbrain_birq.diagnostics.lm_weights import tune_weights

    options = vars(arguments) | {"trust": tuple(arguments.trust), "show": _show_weights}
    del options["command"]
    print("lm_alpha  lm_beta  WER, %  CER, %")
    grid = tune_weights(options.pop("run"), options.pop("lm_path"), **options)
    best = min(grid, key=lambda weighed: weighed.wer)
    entry = {"split": arguments.split, "lm_path": arguments.lm_path, **best._asdict()}
    add_result(arguments.run, TUNED, entry)
    print(f"best: --lm_alpha {best.alpha:g} --lm_beta {best.beta:g}")


def _show_weights(weighed):
    print("{:8g}  {:7g}  {:6.2f}  {:6.2f}".format(*weighed), flush=True)
