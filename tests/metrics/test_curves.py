"""Figures of a run are read back and drawn."""

import json

import pytest

from speechbrain_birq.brains.run_log import RunLog
from speechbrain_birq.metrics.curves import (
    draw_training,
    plot_comparison,
    plot_training,
    read_metrics,
)

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


def test_the_log_does_not_list_fonts(run, caplog):
    caplog.set_level("DEBUG")
    plot_training(run)
    assert "findfont" not in caplog.text


def test_every_reported_figure_has_its_line_in_a_visible_panel(run):
    figure = draw_training(read_metrics(run))
    panels = {axes.get_title(): axes for axes in figure.axes if axes.get_visible()}
    assert set(panels) == {"loss per item", "learning rate", "error rate, %"}
    train, valid = panels["loss per item"].get_lines()
    assert (list(train.get_xdata()), list(train.get_ydata())) == ([0, 1], [5.0, 3.0])
    assert list(valid.get_ydata()) == [4.0]


def test_comparison_is_drawn(run):
    plot_comparison({"one": run}, run / "both.png")
    assert (run / "both.png").read_bytes().startswith(PNG)


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
