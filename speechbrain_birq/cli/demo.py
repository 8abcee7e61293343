"""``birq demo``: corpus, pretraining, fine-tuning and one table, in minutes."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import speechbrain_birq
from speechbrain_birq.checkpoints import files
from speechbrain_birq.cli.side_by_side import Job, run_jobs
from speechbrain_birq.data.corpora.minispeech.corpus import make_minispeech
from speechbrain_birq.errors import BadInput
from speechbrain_birq.metrics.curves import plot_comparison, read_metrics

Row = Mapping[str, Any]

PRETRAINING = "birq_tiny"
ARMS = {"scratch": None, "BEST-RQ": dict(enhanced_weight_value=0.0), "BiRQ": {}}
# Much speech without texts, little with texts: of 4 h, 3 h are for pretraining, 6.4 min
# for fine-tuning, 2.4 min to choose by, 18 min of other speakers to report on.
SHARES = dict(train=0.02667, dev=0.01)
# The last two of the four layers serve the masked task: they start at random, as all
# do from scratch. Rates are high because that is best for every arm, scratch above all.
FINETUNE = dict(
    fresh_layers=2, lr=0.004, lr_encoder=0.002, dropout=0.2, batch_seconds=30
)


def run_demo(
    folder: Path, *, hours: float, steps: int, epochs: int, seed: int
) -> list[Row]:
    """Pretrain BEST-RQ and BiRQ, fine-tune both and a model from scratch, compare.

    Two processes of one thread each run at a time. What is finished already is kept.

    Arguments
    ---------
    folder : Path
        For corpus, runs, ``demo.json`` and ``demo.png``.
    hours : float
        Size of the corpus: three quarters have no texts for training.
    steps : int
        Pretraining steps of each arm.
    epochs : int
        Fine-tuning epochs of each arm.
    seed : int
        Seed of every run; the corpus is the same for every seed.

    Returns
    -------
    list
        A row for each arm, as in ``demo.json``.

    Raises
    ------
    BadInput
        If the corpus cannot be made, or a run fails.
    """
    corpus = folder / "minispeech"
    try:
        make_minispeech(corpus, hours=hours, shares=SHARES)
    except (ValueError, ImportError) as error:
        raise BadInput(str(error)) from error
    seconds = run_jobs(_jobs(folder, corpus, steps, epochs, seed))
    rows = [_row(name, folder, seconds) for name in ARMS]
    record = dict(hours=hours, steps=steps, epochs=epochs, seed=seed, rows=rows)
    versions = dict(version=speechbrain_birq.__version__, torch=torch.__version__)
    files.write(folder / "demo.json", json.dumps(record | versions, indent=2) + "\n")
    plot_comparison({n: folder / _slug(n) for n in ARMS}, folder / "demo.png")
    print(f"\n{steps} pretraining steps, {epochs} epochs of fine-tuning, seed {seed}:")
    print(f"\n{format_table(rows)}\n\n{verdict(rows)}")
    print(f"plots: {folder / 'demo.png'} and curves.png in each of {folder}/*/")
    return rows


def _jobs(folder, corpus, steps, epochs, seed):
    """The longest first; every training is a command that a user could type."""
    common = dict(data_folder=corpus, seed=seed, tensorboard=False)
    pretrain = dict(
        total_steps=steps,
        warmup_steps=steps // 10,
        enhanced_ramp_steps=steps // 4,
        number_of_epochs=1000,
        log_interval=25,
    )
    finetune = FINETUNE | dict(
        number_of_epochs=epochs,
        warmup_epochs=epochs // 6,
        hold_epochs=epochs * 5 // 9,
    )
    before, jobs = {}, []
    for name, labels in reversed(ARMS.items()):
        if labels is not None:
            before[name] = folder / f"{_slug(name)}_pretrained"
            settings = common | pretrain | labels
            words = _words("pretrain", PRETRAINING, settings, before[name])
            pretraining = f"{name}, pretraining"
            jobs.append(
                Job(pretraining, words, before[name], "train", steps - 1, "step")
            )
    for name in ARMS:
        own, run = {}, folder / _slug(name)
        if name in before:
            own["pretrained"] = before[name]
        words = _words("finetune", "ctc_tiny", common | finetune | own, run)
        after = f"{name}, pretraining" if own else None
        jobs.append(
            Job(f"{name}, fine-tuning", words, run, "valid", epochs, "epoch", after)
        )
    return jobs


def _words(command, yaml, settings, run):
    words = [command, yaml, "--noprogressbar"]
    for key, value in (settings | dict(output_folder=run)).items():
        words += [f"--{key}", str(value)]
    return words


def _slug(name):
    return name.lower().replace("-", "_")


def _row(name, folder, seconds):
    run, pretrained = folder / _slug(name), folder / f"{_slug(name)}_pretrained"
    scores = json.loads((run / "results.json").read_text())["test"]
    row = dict(arm=name, wer=scores["wer"], cer=scores["cer"], G=None)
    if ARMS[name] is not None:
        row["G"] = read_metrics(pretrained, "valid")[-1]["G"]
    used = [s for job, s in seconds.items() if job.startswith(f"{name},")]
    return row | dict(cpu_seconds=round(sum(used)))


def format_table(rows: Sequence[Row]) -> str:
    """Write a line for each arm; the first one is from scratch.

    Example
    -------
    >>> rows = [dict(arm="scratch", wer=80.0, cer=50.0, G=None, cpu_seconds=61)]
    >>> rows += [dict(arm="BiRQ", wer=72.3, cer=40.0, G=4.25, cpu_seconds=431)]
    >>> print(format_table(rows))
    arm        CER %   WER %   CER against scratch   G of pretraining   CPU time, s
    scratch     50.0    80.0                                                     61
    BiRQ        40.0    72.3                 -20 %               4.25           431
    """
    head = ("arm", "CER %", "WER %", "CER against scratch", "G of pretraining")
    line = "{:8}{:>8}{:>8}{:>22}{:>19}{:>14}"
    lines = [line.format(*head, "CPU time, s")]
    for row in rows:
        gain = "" if row["G"] is None else f"{_gain(row, rows):+.0f} %"
        loss = "" if row["G"] is None else f"{row['G']:.2f}"
        rates = f"{row['cer']:.1f}", f"{row['wer']:.1f}"
        lines.append(line.format(row["arm"], *rates, gain, loss, row["cpu_seconds"]))
    return "\n".join(lines)


def _gain(row, rows):
    return 100 * (row["cer"] / rows[0]["cer"] - 1)


def verdict(rows: Sequence[Row]) -> str:
    """Say whether pretraining paid off in this run; the first row is from scratch.

    Example
    -------
    >>> rows = [dict(arm="scratch", cer=9.0), dict(arm="BEST-RQ", cer=9.5)]
    >>> print(verdict([*rows, dict(arm="BiRQ", cer=8.1)]))
    BEST-RQ did not beat training from scratch (CER 9.5 against 9.0).
    BiRQ beat training from scratch (CER 8.1 against 9.0).
    """
    scratch = rows[0]["cer"]
    return "\n".join(
        f"{row['arm']} {'beat' if row['cer'] < scratch else 'did not beat'} training "
        f"from scratch (CER {row['cer']:.1f} against {scratch:.1f})."
        for row in rows[1:]
    )
