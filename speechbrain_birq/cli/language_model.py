"""``birq ngram`` and ``birq tune-lm``."""

from speechbrain_birq.errors import BadInput


def add_ngram(parser) -> None:
    """Arguments of ``birq ngram``."""
    parser.add_argument("arpa", help="file to write")
    parser.add_argument("texts", nargs="+", help="manifests, folders, text files")
    parser.add_argument("--order", type=int, default=4)


def add_tune_lm(parser) -> None:
    """Arguments of ``birq tune-lm``."""
    parser.add_argument("run", help="run folder of a fine-tuning")
    parser.add_argument("--lm_path", required=True, help="ARPA or kenlm binary")
    parser.add_argument("--split", default="dev-clean", help="never one you report on")
    numbers = dict(type=float, nargs="+")
    parser.add_argument("--alphas", default=[0.25, 0.5, 0.75, 1.0, 1.5], **numbers)
    parser.add_argument("--betas", default=[0.0, 1.0, 1.5, 2.0, 3.0], **numbers)
    parser.add_argument("--beam_size", type=int, default=100)
    parser.add_argument("--utterances", type=int, default=500, help="at most so many")
    parser.add_argument("--trust", action="append", default=[], metavar="PACKAGE")


# Imports wait in the functions: `birq --help` should not load torch.


def ngram(arguments) -> None:
    """Estimate an n-gram and write it as ARPA."""
    if not 2 <= arguments.order <= 6:
        raise BadInput(f"--order {arguments.order}: kenlm takes 2 to 6")

    from speechbrain_birq.decoding.ngram import estimate, read_sentences, write_arpa

    sentences = read_sentences(arguments.texts)
    tables = estimate(sentences, arguments.order)
    try:
        write_arpa(arguments.arpa, tables)
    except OSError as error:
        raise BadInput(f"cannot write {arguments.arpa} ({error.strerror})") from error
    counts = ", ".join(f"{len(table)} {n}-grams" for n, table in enumerate(tables, 1))
    print(f"{arguments.arpa}: {len(sentences)} sentences, {counts}")


def tune_lm(arguments) -> None:
    """Print the error rates of a grid of weights, keep the best in results.json."""
    for name in ("beam_size", "utterances"):
        if getattr(arguments, name) < 1:
            raise BadInput(f"--{name} {getattr(arguments, name)}: give 1 or more")

    from speechbrain_birq.brains.run_log import add_result
    from speechbrain_birq.diagnostics.lm_weights import tune_weights

    options = vars(arguments) | {"trust": tuple(arguments.trust), "show": _show_weights}
    del options["command"]
    print("lm_alpha  lm_beta  WER, %  CER, %")
    grid = tune_weights(options.pop("run"), options.pop("lm_path"), **options)
    best = min(grid, key=lambda weighed: weighed.wer)
    entry = {"split": arguments.split, "lm_path": arguments.lm_path, **best._asdict()}
    add_result(arguments.run, "lm_weights", entry)
    print(f"best: --lm_alpha {best.alpha:g} --lm_beta {best.beta:g}")


def _show_weights(weighed):
    print("{:8g}  {:7g}  {:6.2f}  {:6.2f}".format(*weighed), flush=True)
