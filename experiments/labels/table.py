"""Table and picture of the stored figures of label experiments."""

import csv
import math
import statistics
from collections import defaultdict

import numpy as np
from scipy.stats import ttest_1samp

from speechbrain_birq.metrics.significance import Difference, difference, interval_text

HEADER = (
    "| arm | seeds | fine-tunings | CER, % (each seed) | mean | spread | against {} "
    "| CPU cost | G | anchor codes, perplexity | enhanced codes, perplexity |"
)
LABEL_HEADER = (
    "| arm: anchor, enhanced labels | accuracy | bits | bits about the speaker "
    "| bits about the time | bits that both share |"
)
KINDS, USAGE = ("anchor", "enhanced"), ("used_codes", "perplexity")
LABEL_FIGURES = "accuracy", "bits", "speaker_bits", "time_bits"


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
    """Format the difference to the baseline: bootstrap interval; t over the seeds."""
    found = paired(pieces, baseline)
    if found is None:
        return ""
    bounds = interval_text(found.low, found.high, sign="+")
    over_seeds = seeds_interval(pieces, baseline)
    if over_seeds is not None:
        bounds += f"; {interval_text(*over_seeds, sign='+')}"
    return f"{found.first - found.second:+.2f} ({bounds})"


def seeds_interval(pieces, baseline) -> tuple[float, float] | None:
    """Return the 95 % interval by t of the differences of seeds; None: fewer than two.

    It says what other seeds may give, and takes the utterances as they are.
    """
    seeds = pieces.keys() & baseline.keys()
    if len(seeds) < 2:
        return None
    gains = [rate(pieces[seed]) - rate(baseline[seed]) for seed in sorted(seeds)]
    return tuple(ttest_1samp(gains, 0).confidence_interval())


def paired(pieces, baseline) -> Difference | None:
    """Compare with the baseline over the seeds that both have; None: there are none.

    The bootstrap draws utterances, each with the errors of all seeds, because these are
    not independent of each other. Several fine-tunings enter with their mean.
    """
    seeds = sorted(pieces.keys() & baseline.keys())
    if not seeds:
        return None
    rows = np.zeros((len(pieces[seeds[0]]["errors"]), 3))
    for seed in seeds:
        ours, theirs = errors(pieces[seed]), errors(baseline[seed])
        rows += np.stack((ours[:, 0], theirs[:, 0], ours[:, 1]), axis=1)
    return difference(*rows.T)


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
    """Format the usage of the labels in the last validation, as means over seeds."""
    usage = [[f"{kind}_{name}" for name in USAGE] for kind in KINDS]
    return [means(pieces, ["G"], 2), *(means(pieces, names, 0) for names in usage)]


def means(pieces, names, digits) -> str:
    """Format the means over seeds of those figures that the last validation has."""
    figures = [piece["pretraining"] or {} for piece in pieces.values()]
    found = [[f[name] for f in figures if name in f] for name in names]
    return ", ".join(f"{statistics.mean(f):.{digits}f}" for f in found if f)


def label_table(plan, records) -> str:
    """Format a table of what the labels say; empty if no record has these figures.

    The figures are those of the last validation, for both kinds of labels: accuracy of
    their prediction, what it says of the label (``bits``), and what a label says of the
    speaker, of the place in the utterance and of the other kind.
    """
    lines = [LABEL_HEADER, "|---" * (LABEL_HEADER.count("|") - 1) + "|"]
    for arm, pieces in by_arm(plan, records).items():
        if not means(pieces, ["anchor_bits"], 2):
            continue
        cells = [
            means(pieces, [f"{kind}_{name}" for kind in KINDS], 2)
            for name in LABEL_FIGURES
        ]
        lines.append("| " + " | ".join([arm, *cells, shared(pieces)]) + " |")
    return "\n".join(lines) if len(lines) > 2 else ""


def shared(pieces) -> str:
    """Format the mutual information of the two kinds of labels, in bits."""
    nats = means(pieces, ["mutual_information"], 6)
    return f"{float(nats) / math.log(2):.2f}" if nats else ""


def picture(plan, records, path) -> None:
    """Draw each arm's seeds, and its interval around the baseline.

    A point is a seed, a short line the arm's mean, the long line the baseline's mean. A
    thick line is the 95 % interval of the difference, added to the baseline's mean: an
    arm differs if its thick line does not cross the long one.
    """
    from matplotlib.figure import Figure

    arms = by_arm(plan, records)
    baseline = arms.get(plan["baseline"], {})
    figure = Figure(figsize=(7, 0.4 * len(arms) + 1.2), layout="constrained")
    axes = figure.subplots()
    middle = None
    if baseline:
        middle = statistics.mean(rate(piece) for piece in baseline.values())
        axes.axvline(middle, color="0.6", linewidth=1, zorder=0)
    for row, pieces in enumerate(arms.values()):
        rates = [rate(piece) for piece in pieces.values()]
        axes.plot(rates, [row] * len(rates), "o", color="C0", markersize=5)
        axes.plot([statistics.mean(rates)], [row], "|", color="C0", markersize=14)
        found = None if pieces is baseline else paired(pieces, baseline)
        if found is not None:
            ends = [middle + found.low, middle + found.high]
            axes.plot(ends, [row, row], color="C1", alpha=0.4, linewidth=7, zorder=1)
    axes.set_yticks(range(len(arms)), arms)
    axes.set_ylim(len(arms) - 0.5, -0.5)  # the first arm on top; no bar is cut
    axes.set_xlabel(
        "CER on test, %; points: seeds\nthick: 95 % interval (utterances) of the "
        f"difference to {plan['baseline']}, same seeds,\ndrawn from the long line"
    )
    figure.savefig(path, dpi=130)
