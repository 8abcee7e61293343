"""A report is one short line, whatever the size of the run."""

import logging
import time

import pytest
from small_brains import UNEQUAL, Nowhere, batch_of, feed, validate

from speechbrain_birq.brains.progress import Progress
from speechbrain_birq.brains.report_line import report_line
from speechbrain_birq.brains.schedules import Ramp

HUGE = dict(
    G=12.345678,
    anchor_perplexity=8191.9,
    F=12.345678,
    enhanced_used_codes=8192.0,
    enhanced_perplexity=8191.9,
    loss=30.0,
    frames_per_second=1_234_567.8,
)


def halfway(done, total, seconds):
    """Progress of a run whose steps since the first have taken so many seconds."""
    progress = Progress()
    progress.begin(done=0, total=total, shown=False)
    progress.advance(1)
    progress._first = (time.monotonic() - seconds, 1)
    progress.advance(done)
    return progress


def test_a_report_of_the_largest_run_has_at_most_110_characters():
    progress = halfway(400_000, 4_000_000, 86_400 * 2)
    line = report_line("train", 400_000, HUGE, progress)
    assert "step 400,000/4,000,000" in line and "18 d 0 h left" in line
    assert len(line) <= 110


def test_time_left_is_that_of_the_steps_left():
    line = report_line("train", 101, {"loss": 1.0}, halfway(101, 301, 60))
    assert line == "step 101/301  loss 1.00  2 min left"


def test_after_the_last_step_no_time_is_left():
    line = report_line("train", 300, {"loss": 1.0}, halfway(300, 300, 60))
    assert line == "step 300/300  loss 1.00"


def test_the_codes_of_best_rq_are_those_of_the_anchor():
    figures = dict(G=4.0, anchor_perplexity=83.0, anchor_used_codes=350.4, loss=4.0)
    line = report_line("valid", 60, figures, Progress())
    assert line == "step 60  validation: G 4.00 (labels 4.4)  codes 350/83"


def test_figures_of_nothing_finite_are_shown_as_such():
    figures = dict(G=float("nan"), anchor_perplexity=float("nan"))
    assert "G nan (labels nan)" in report_line("train", 1, figures, Progress())


@pytest.mark.parametrize("weight", [0.0, 0.7])
def test_a_pretraining_logs_a_line_a_report(make_brain, caplog, weight):
    brain = make_brain(log_interval=2, enhanced_weight=Ramp(value=weight))
    brain.checkpointer = Nowhere()
    with caplog.at_level(logging.INFO):
        feed(brain, *[batch_of(*UNEQUAL)] * 4)
        validate(brain, batch_of(*UNEQUAL))
    ours = [r for r in caplog.records if r.name.startswith("speechbrain_birq")]
    lines = [record.getMessage() for record in ours]
    heads = [line.split("  ")[0] for line in lines]
    assert heads == ["step 1", "step 2", "step 4", "step 4"]
    assert all(("F " in line) == (weight > 0) for line in lines)
    assert "validation" in lines[-1] and "validation" not in lines[-2]
