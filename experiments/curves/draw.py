"""Draw docs/training.png: a good, a collapsed and an overfitted run.

    python experiments/curves/draw.py

The figures beside this file were kept from three runs on one CPU core, of 4, 1 and 5
minutes. SO762 is speechocean762 as in docs/results.md; the corpus of the third one:
birq minispeech corpus --hours 4 --shares train=0.02667 dev=0.02

    birq pretrain birq_adamw_tiny --data_folder SO762 --output_folder results/good \
        --total_steps 1200 --warmup_steps 100 --enhanced_ramp_steps 400 \
        --log_interval 20
    birq pretrain birq_paper_tiny --data_folder SO762 --total_steps 120 \
        --warmup_steps 20 --log_interval 5 --output_folder results/collapsed
    birq finetune ctc_tiny --data_folder corpus --output_folder results/overfitted \
        --batch_seconds 30 --number_of_epochs 60 --warmup_epochs 3 --hold_epochs 36 \
        --optimizer_step_limit 540
    python experiments/curves/draw.py results/good results/collapsed \
        results/overfitted
"""

import json
import sys
from pathlib import Path

from speechbrain_birq.metrics import read_metrics
from speechbrain_birq.metrics.curve_panels import (
    ANCHOR,
    ENHANCED,
    PANELS,
    Curve,
    Panel,
    draw_panel,
)
from speechbrain_birq.metrics.line_labels import name_lines

HERE = Path(__file__).parent
PICTURE = HERE.parents[1] / "docs" / "training.png"
RUNS = ("good", "collapsed", "overfitted")
RAMP = 400  # --enhanced_ramp_steps of the good run
LOSSES = PANELS[0].curves
DRAWN = {
    "good": Panel(
        "good: below the dashed lines", (*LOSSES, Curve("loss", "w₁ F + w₂ G", "black"))
    ),
    "collapsed": Panel("collapsed: one code is left", LOSSES),
    "overfitted": Panel(
        "overfitted: dev rises, training falls", (Curve("loss", "CTC loss", ANCHOR),)
    ),
}


def keep(folder, name):
    """Keep the figures of a run that are drawn."""
    figures = {"stage", "step", "cer"} | {curve.figure for curve in DRAWN[name].curves}
    rows = [
        {
            key: value if key in ("stage", "step") else round(value, 4)
            for key, value in row.items()
            if key in figures
        }
        for row in read_metrics(folder)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (HERE / name).mkdir(exist_ok=True)
    (HERE / name / "metrics.jsonl").write_text(text, encoding="utf-8")


def draw():
    """Draw a panel for each run."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 4), layout="constrained")
    for axes, name in zip(figure.subplots(1, 3), RUNS, strict=True):
        rows = read_metrics(HERE / name)
        if name != "overfitted":  # one validation of a short run says little
            rows = [row for row in rows if row["stage"] == "train"]
        draw_panel(axes, DRAWN[name], rows)
        axes.set_ylim(bottom=-0.1)
        axes.set_xlabel("optimizer step")
        axes.set_ylabel("loss, nats")
    good, _, overfitted = figure.axes
    good.axvspan(0, RAMP, color=ENHANCED, alpha=0.08, linewidth=0)
    good.set_ylim(bottom=2.5)
    good.text(RAMP / 2, 2.6, "ramp of w₁", color=ENHANCED, ha="center")
    dev = min(read_metrics(HERE / "overfitted", "valid"), key=lambda row: row["loss"])
    overfitted.axvline(dev["step"], color="gray", linestyle=":", linewidth=1)
    overfitted.text(dev["step"] + 8, 0.1, "lowest on dev", color="gray")
    figure.draw_without_rendering()  # labels need the sizes of the panels
    for axes in figure.axes:
        name_lines(axes)
    figure.savefig(PICTURE, dpi=110)


if __name__ == "__main__":
    for run, kept in zip(sys.argv[1:], RUNS, strict=False):
        keep(run, kept)
    draw()
