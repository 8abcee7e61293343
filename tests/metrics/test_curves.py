"""Figures of a run are read back and drawn."""

import itertools
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechbrain_birq.brains.run_log import RunLog
from speechbrain_birq.metrics.curve_panels import PANELS, draw_training
from speechbrain_birq.metrics.curves import (
    plot_comparison,
    plot_training,
    read_metrics,
)
from speechbrain_birq.metrics.line_labels import moved_apart

PNG = b"\x89PNG"


@pytest.fixture
def run(tmp_path):
    log = RunLog(tmp_path, tensorboard=False)
    log.report("train", 0, {"G": 5.0, "lr": 0.1})
    log.report("valid", 1, {"G": 4.0, "cer": 50.0})
    log.report("train", 1, {"G": 3.0, "lr": 0.2})
    return tmp_path


def test_reports_come_back_by_stage_and_in_order(run):
    assert [row["G"] for row in read_metrics(run, "train")] == [5.0, 3.0]
    assert len(read_metrics(run)) == 3


def test_a_folder_without_reports_has_none(tmp_path):
    assert read_metrics(tmp_path) == []


def test_training_is_drawn_and_the_last_validation_returned(run):
    assert plot_training(run)["cer"] == 50.0
    assert (run / "curves.png").read_bytes().startswith(PNG)


def test_a_picture_that_cannot_be_written_is_logged(run, caplog):
    (run / "curves.png").mkdir()
    assert plot_training(run)["cer"] == 50.0
    assert f"{run / 'curves.png'} (Is a directory)" in caplog.text


def test_every_reported_figure_has_its_line_in_a_visible_panel(run):
    figure = draw_training(read_metrics(run))
    panels = {
        axes.get_title(loc="left"): axes for axes in figure.axes if axes.get_visible()
    }
    loss = "loss of a masked frame, nats"
    assert set(panels) == {loss, "learning rate", "error rate, %"}
    train, valid = panels[loss].get_lines()
    assert (list(train.get_xdata()), list(train.get_ydata())) == ([0, 1], [5.0, 3.0])
    assert list(valid.get_ydata()) == [4.0]


def test_guides_are_dashed_and_in_nats():
    row = dict(stage="train", G=4.0, log_codes=6.2, anchor_perplexity=90.0)
    (axes,) = draw_training([row | {"step": 1}], PANELS[:1]).axes
    styles = {line.get_label(): line.get_linestyle() for line in axes.get_lines()}
    assert styles == {"G": "-", "log N": "--", "log perpl. (G)": "--"}
    ends = {line.get_label(): line.get_ydata()[-1] for line in axes.get_lines()}
    assert ends["log perpl. (G)"] == pytest.approx(math.log(90))


def test_the_loss_of_ctc_is_not_called_that_of_labels():
    rows = [dict(stage="valid", step=1, loss=2.0, cer=50.0, wer=90.0)]
    titles = {axes.get_title(loc="left") for axes in draw_training(rows).axes}
    assert titles == {"CTC loss of a token, nats", "error rate, %"}


def test_names_stand_beside_the_ends_of_their_lines():
    rows = [dict(stage="train", step=n, G=5.0 - n, F=3.0 + n) for n in (0, 1)]
    (axes,) = draw_training(rows, PANELS[:1]).axes
    assert axes.get_legend() is None
    places = {text.get_text(): text.xy for text in axes.texts}
    for line in axes.get_lines():
        x, y = places[line.get_label()]
        end = axes.transData.transform((1, line.get_ydata()[-1]))
        assert x == 1
        assert y == pytest.approx(axes.transAxes.inverted().transform(end)[1], abs=0.08)


def test_names_of_lines_that_end_together_do_not_overlap():
    rows = [dict(stage="train", step=1, G=4.0, F=4.0, log_codes=4.001)]
    (axes,) = draw_training(rows, PANELS[:1]).axes
    heights = sorted(text.xy[1] for text in axes.texts)
    assert len(heights) == 3
    gaps = [b - a for a, b in itertools.pairwise(heights)]
    letters = axes.texts[0].get_fontsize() / 72 * axes.figure.dpi
    assert min(gaps) * axes.get_window_extent().height >= letters


@given(
    st.lists(st.floats(0, 1), max_size=8),
    st.floats(0.01, 0.3),
)
def test_moved_labels_keep_their_order_and_distance(heights, gap):
    places = moved_apart(heights, gap)
    ordered = sorted(zip(heights, places, strict=True))
    for (low, first), (high, second) in itertools.pairwise(ordered):
        assert second - first >= gap - 1e-6 or low == high
    assert sum(places) == pytest.approx(sum(heights), abs=1e-6)
    spread = sorted(places)
    assert all(b - a >= gap - 1e-6 for a, b in itertools.pairwise(spread))


def test_labels_with_room_stay_where_they_are():
    assert moved_apart([0.1, 0.9, 0.5], 0.2) == pytest.approx([0.1, 0.9, 0.5])


def test_comparison_is_drawn(run):
    plot_comparison({"one": run}, run / "both.png")
    assert (run / "both.png").read_bytes().startswith(PNG)


def test_a_comparison_that_cannot_be_written_does_not_end_the_command(run, caplog):
    plot_comparison({"one": run}, run / "nowhere" / "both.png")
    assert "both.png (No such file or directory)" in caplog.text


def test_tensorboard_gets_the_same_figures(tmp_path):
    loader = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    )
    RunLog(tmp_path).report("train", 7, {"G": 2.5})
    events = loader.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    (event,) = events.Scalars("train/G")
    assert (event.step, event.value) == (7, 2.5)


def test_an_unwritable_tensorboard_folder_does_not_stop_the_run(tmp_path, caplog):
    (tmp_path / "tensorboard").write_text("a file in the way")
    RunLog(tmp_path).report("train", 0, {"G": 1.0})
    assert "no TensorBoard" in caplog.text
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["G"] == 1.0
