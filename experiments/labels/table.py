"""Table and picture of the stored figures of label experiments."""

import csv
import statistics
from collections import defaultdict

import numpy as np

from speechbrain_birq.metrics.significance import difference, interval_text

HEADER = (
    "| arm | seeds | fine-tunings | CER, % (each seed) | mean | spread | against {} "
    "| CPU cost | G | anchor codes, perplexity | enhanced codes, perplexity |"
)


def read_errors(run, split) -> dict:
    """Read {id: [character errors, characters]} of a scored split."""
    with open(run / f"errors_{split}.csv", newline="", encoding="utf-8") as file:
        return {
            row["id"]: [int(row["character_errors"]), int(row["characters"])]
            for row in csv.DictReader(file)
        }


def table(plan, records) -> str:
    """Format a Markdown table with one row for each arm."""
    arms = by_arm(plan, records)
    baseline = arms.get(plan["baseline"], {})
    header = HEADER.format(plan["baseline"])
    lines = [header, "|---" * (header.count("|") - 1) + "|"]
    for arm, pieces in arms.items():
        rates = [rate(piece) for piece in pieces.values()]
        cells = [
            arm,
            len(rates),
            sum(len(piece["scores"]) for piece in pieces.values()),
            " ".join(f"{rate:.1f}" for rate in rates),
            f"{statistics.mean(rates):.2f}",
            f"{statistics.stdev(rates):.2f}" if len(rates) > 1 else "",
            against(pieces, baseline) if arm != plan["baseline"] else "",
            cost(pieces, baseline),
            *labels(pieces),
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def rate(piece) -> float:
    """Return the mean CER in percent over all fine-tunings of a pretraining."""
    return statistics.mean(scores["cer"] for scores in piece["scores"])


def by_arm(plan, records) -> dict:
    """Return {arm: {seed: record}} in the plan's order; skip arms without a record."""
    found = defaultdict(dict)
    for record in sorted(records, key=lambda record: record["seed"]):
        found[record["arm"]][record["seed"]] = record
    return {arm: found[arm] for arm in plan["arms"] if arm in found}


def against(pieces, baseline) -> str:
    """Format the difference to the baseline with its bootstrap interval.

    The bootstrap draws utterances, each with the errors of all seeds, because these are
    not independent of each other. Several fine-tunings enter with their mean.
    """
    seeds = sorted(pieces.keys() & baseline.keys())
    if not seeds:
        return ""
    rows = np.zeros((len(pieces[seeds[0]]["errors"]), 3))
    for seed in seeds:
        ours, theirs = errors(pieces[seed]), errors(baseline[seed])
        rows += np.stack((ours[:, 0], theirs[:, 0], ours[:, 1]), axis=1)
    found = difference(*rows.T)
    bounds = interval_text(found.low, found.high, sign="+")
    return f"{found.first - found.second:+.2f} ({bounds})"


def errors(piece):
    """Return (utterances, 2): mean character errors and characters of a pretraining."""
    counts = [piece["errors"][name] for name in sorted(piece["errors"])]
    return np.array(counts) / len(piece["scores"])


def cost(pieces, baseline) -> str:
    """Format the CPU time relative to the baseline, over the seeds that both have."""
    seeds = pieces.keys() & baseline.keys()
    ours, theirs = (
        sum(found[seed]["cpu_seconds"] for seed in seeds)
        for found in (pieces, baseline)
    )
    return f"{ours / theirs:.2f}" if theirs else ""


def labels(pieces) -> list:
    """Format the label figures of the last validation, as means over seeds."""
    figures = [piece["pretraining"] or {} for piece in pieces.values()]
    cells = []
    for names in (("G",), _usage("anchor"), _usage("enhanced")):
        found = [[f[name] for f in figures if name in f] for name in names]
        digits = 2 if names == ("G",) else 0
        means = [f"{statistics.mean(f):.{digits}f}" for f in found if f]
        cells.append(", ".join(means))
    return cells


def _usage(kind):
    return f"{kind}_used_codes", f"{kind}_perplexity"


def picture(plan, records, path) -> None:
    """Draw a bar for the mean of each arm and a point for each seed."""
    from matplotlib.figure import Figure

    arms = by_arm(plan, records)
    figure = Figure(figsize=(7, 0.45 * len(arms) + 1.2), layout="constrained")
    axes = figure.subplots()
    for row, pieces in enumerate(arms.values()):
        rates = [rate(piece) for piece in pieces.values()]
        axes.barh(row, statistics.mean(rates), color="C0", alpha=0.35)
        axes.plot(rates, [row] * len(rates), "o", color="C0", markersize=5)
    axes.set_yticks(range(len(arms)), arms)
    axes.invert_yaxis()
    axes.set_xlabel("CER on test, %; points: seeds")
    figure.savefig(path, dpi=130)
