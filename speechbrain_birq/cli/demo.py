"""``birq demo``: corpus, pretraining, fine-tuning and one table, in minutes."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from speechbrain_birq.data.corpora.librispeech import prepare_librispeech
from speechbrain_birq.data.corpora.minispeech.corpus import make_minispeech
from speechbrain_birq.errors import BadInput
from speechbrain_birq.experiment import finetune, pretrain
from speechbrain_birq.metrics.curves import plot_comparison, read_metrics

Row = Mapping[str, Any]

ARMS = {"scratch": None, "BEST-RQ": "best_rq_tiny", "BiRQ": "birq_tiny"}


def run_demo(folder: Path, steps: int, epochs: int, seed: int) -> None:
    """Pretrain BEST-RQ and BiRQ, fine-tune both and a model from scratch, compare.

    Arguments
    ---------
    folder : Path
        For corpus and runs; what is finished already is kept.
    steps : int
        Pretraining steps of each arm.
    epochs : int
        Fine-tuning epochs of each arm.
    seed : int
        Seed of the corpus and of every run.

    Raises
    ------
    BadInput
        If the corpus cannot be made.
    """
    corpus = folder / "minispeech"
    try:
        make_minispeech(corpus, hours=0.5, seed=seed)
    except (ValueError, ImportError) as error:
        raise BadInput(str(error)) from error
    common = ["--data_folder", str(corpus), "--seed", str(seed)]
    rows = [_run_arm(name, folder, common, steps, epochs) for name in ARMS]
    print("\n" + format_table(rows))
    plot_comparison({row["arm"]: row["folder"] for row in rows}, folder / "demo.png")
    print(f"\nplots: {folder / 'demo.png'} and curves.png in each of {folder}/*/")
    print(verdict(rows))


def _run_arm(name, folder, common, steps, epochs):
    started = time.time()
    slug = name.lower().replace("-", "_")
    run, yaml = folder / slug, ARMS[name]
    argv = [*common, "--tensorboard", "False"]
    extra = []
    if yaml is not None:
        target = folder / f"{slug}_pretrained"
        pretrain(
            prepare_librispeech,
            [
                yaml,
                *argv,
                *("--output_folder", str(target)),
                *("--total_steps", str(steps)),
                *("--warmup_steps", str(steps // 10)),
                *("--enhanced_ramp_steps", str(steps // 3)),
                *("--number_of_epochs", "1000"),
                *("--log_interval", "25"),
            ],
        )
        extra = ["--pretrained", str(target)]
    finetune(
        prepare_librispeech,
        [
            "ctc_tiny",
            *argv,
            *("--output_folder", str(run)),
            *("--batch_seconds", "20"),
            *("--number_of_epochs", str(epochs)),
            *("--warmup_epochs", str(epochs // 6)),
            *("--hold_epochs", str(epochs // 2)),
            *extra,
        ],
    )
    return _row(name, run, extra[1] if extra else None, time.time() - started)


def _row(name, run, pretrained, seconds):
    scores = json.loads((run / "results.json").read_text())["test"]
    row = {"arm": name, "folder": run, "wer": scores["wer"], "cer": scores["cer"]}
    usage = read_metrics(pretrained, "train")[-1] if pretrained else {}
    for kind in ("anchor", "enhanced"):
        row[kind] = usage.get(f"{kind}_used_codes")
    row["seconds"] = seconds
    return row


def format_table(rows: Sequence[Row]) -> str:
    """Write a line for each arm.

    Example
    -------
    >>> row = dict(arm="BiRQ", wer=12.3, cer=4.5, seconds=61)
    >>> row |= dict(anchor=90.2, enhanced=None)
    >>> print(format_table([row]))
    arm          WER %   CER %   codes used, anchor   codes used, enhanced   time, s
    BiRQ          12.3     4.5                   90                      -        61
    """
    head = ("arm", "WER %", "CER %", "codes used, anchor", "codes used, enhanced")
    lines = ["{:10}{:>8}{:>8}{:>21}{:>23}{:>10}".format(*head, "time, s")]
    for row in rows:
        codes = (
            "-" if row[k] is None else f"{row[k]:.0f}" for k in ("anchor", "enhanced")
        )
        lines.append(
            "{:10}{:8.1f}{:8.1f}{:>21}{:>23}{:10.0f}".format(
                row["arm"], row["wer"], row["cer"], *codes, row["seconds"]
            )
        )
    return "\n".join(lines)


def verdict(rows: Sequence[Row]) -> str:
    """Say whether pretraining paid off in this run; the first row is from scratch.

    Example
    -------
    >>> rows = [dict(arm="scratch", cer=9.0), dict(arm="BiRQ", cer=9.5)]
    >>> verdict(rows)
    'BiRQ did not beat training from scratch (CER 9.5 against 9.0).'
    """
    scratch, *pretrained = rows
    lost = [row for row in pretrained if row["cer"] >= scratch["cer"]]
    if not lost:
        return "Every pretrained arm beat training from scratch."
    return " ".join(
        f"{row['arm']} did not beat training from scratch "
        f"(CER {row['cer']:.1f} against {scratch['cer']:.1f})."
        for row in lost
    )
