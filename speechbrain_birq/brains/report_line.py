"""The line that stands for a report on the terminal and in log.txt."""

import math
from collections.abc import Mapping

from speechbrain_birq.brains.progress import Progress, duration

LEGEND = (
    "G, F: losses in nats; a uniform guess: {:.2f}; labels: G of the best guess that "
    "ignores the input; codes: used/perplexity"
)
FORMS = {
    "G": "G {G:.2f} (labels {labels:.1f})",
    "F": "F {F:.2f}",
    "used": "codes {used:,.0f}/{perplexity:,.0f}",
    "mean": "loss {mean:.2f}",
    "cer": "CER {cer:.1f} %",
    "wer": "WER {wer:.1f} %",
    "frames_per_second": "{frames_per_second:,.0f} fr/s",
}


def report_line(
    stage: str, step: int, figures: Mapping[str, float], progress: Progress
) -> str:
    """Write the figures that show how a run is doing; metrics.jsonl has all of them.

    Arguments
    ---------
    stage : str
        ``train`` or ``valid``.
    step : int
        Optimizer steps so far.
    figures : mapping
        Those of the report. ``labels`` is the logarithm of the anchor labels'
        perplexity: the loss G of the best guess that ignores the input. ``codes`` are
        those of the enhanced labels, with BEST-RQ those of the anchor labels.
    progress : Progress

    Example
    -------
    >>> figures = dict(loss=5.2, G=4.03, anchor_perplexity=83.0, F=4.49)
    >>> figures |= dict(enhanced_used_codes=415.2, enhanced_perplexity=143.1)
    >>> report_line("train", 1200, figures | {"frames_per_second": 1700}, Progress())
    'step 1,200  G 4.03 (labels 4.4)  F 4.49  codes 415/143  1,700 fr/s'
    >>> report_line("valid", 96, {"loss": 2.5, "cer": 57.21, "wer": 81}, Progress())
    'step 96  validation: loss 2.50  CER 57.2 %  WER 81.0 %'
    """
    total = "" if progress.total is None else f"/{progress.total:,}"
    shown = figure_texts(figures)
    if stage == "valid":
        shown[0] = f"validation: {shown[0]}"
    left = progress.seconds_left()
    if stage == "train" and left is not None:
        shown.append(f"{duration(left)} left")
    return "  ".join([f"step {step:,}{total}", *shown])


def figure_texts(figures: Mapping[str, float]) -> list[str]:
    """Write the figures of a report that people look at first.

    Example
    -------
    >>> figure_texts({"loss": 2.5, "cer": 57.21, "grad_norm": 3.0})
    ['loss 2.50', 'CER 57.2 %']
    """
    kind = "enhanced" if "F" in figures else "anchor"
    values = dict(figures)
    for name, figure in (("used", "used_codes"), ("perplexity", "perplexity")):
        if f"{kind}_{figure}" in figures:
            values[name] = figures[f"{kind}_{figure}"]
    if "G" in figures:
        values["labels"] = math.log(figures.get("anchor_perplexity", math.nan))
    elif "loss" in figures:
        values["mean"] = figures["loss"]
    return [form.format_map(values) for name, form in FORMS.items() if name in values]
