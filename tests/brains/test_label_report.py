"""What is reported of the labels, against loops; the warning of a collapse."""

import copy
import logging
import math
from collections import Counter

import pytest
import torch
from small_brains import HOP, UNEQUAL, batch_of, example, feed
from speechbrain.dataio.batch import PaddedData

from speechbrain_birq.brains import label_report
from speechbrain_birq.brains.label_report import LabelReport, warn_of_collapse
from speechbrain_birq.brains.schedules import Ramp
from speechbrain_birq.models.objectives import Objective

G, N = 2, 5


def report_of(*batches, enhanced=True):
    report = LabelReport(num_codebooks=G, num_codes=N, enhanced=enhanced, device="cpu")
    for objective, mask in batches:
        report.add(objective, mask)
    return report


def batch(seed, frames, length=1.0):
    """Objective of so many masked frames, and the mask of 2 x 10 frames."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *size: torch.rand(*size, generator=generator)  # noqa: E731
    codes = [torch.randint(N, (frames, G), generator=generator) for _ in range(2)]
    objective = Objective(
        anchor_loss=frames * draw(G),
        enhanced_loss=frames * draw(G),
        num_frames=torch.tensor(frames),
        anchor_correct=(frames * draw(G)).long(),
        enhanced_correct=(frames * draw(G)).long(),
        anchor_codes=codes[0],
        enhanced_codes=codes[1],
        label_cost=torch.zeros(G),
    )
    mask = PaddedData(torch.zeros(2, 10).bool(), torch.tensor([1.0, length]))
    return objective, mask


BATCHES = [batch(1, 7), batch(2, 30, 0.5), batch(3, 12)]


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def entropy(symbols):
    shares = [count / len(symbols) for count in Counter(symbols).values()]
    return -sum(share * math.log(share) for share in shares)


def test_figures_are_those_of_loops_over_frames_and_codebooks():
    figures = report_of(*BATCHES).figures(w_enhanced=0.3, w_anchor=2.0)
    objectives = [objective for objective, _ in BATCHES]
    frames = 7 + 30 + 12
    expected, columns = {"log_codes": math.log(N)}, {}
    for kind, level in (("anchor", "G"), ("enhanced", "F")):
        loss, correct = (
            sum(mean(getattr(o, f"{kind}_{what}").tolist()) for o in objectives)
            for what in ("loss", "correct")
        )
        codes = [
            row for o in objectives for row in getattr(o, f"{kind}_codes").tolist()
        ]
        columns[kind] = [[row[g] for row in codes] for g in range(G)]
        expected |= {
            level: loss / frames,
            f"{kind}_accuracy": correct / frames,
            f"{kind}_used_codes": mean(len(set(c)) for c in columns[kind]),
            f"{kind}_perplexity": mean(math.exp(entropy(c)) for c in columns[kind]),
            f"{kind}_top_share": mean(
                max(Counter(c).values()) / frames for c in columns[kind]
            ),
            f"{kind}_bits": mean(entropy(c) for c in columns[kind]) / math.log(2)
            - loss / frames / math.log(2),
        }
    pairs = [
        list(zip(first, second, strict=True))
        for first, second in zip(*columns.values(), strict=True)
    ]
    expected["agreement"] = mean(a == b for both in pairs for a, b in both)
    expected["mutual_information"] = mean(
        entropy(first) + entropy(second) - entropy(both)
        for first, second, both in zip(*columns.values(), pairs, strict=True)
    )
    expected["loss"] = 0.3 * expected["F"] + 2.0 * expected["G"]
    assert figures == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("bound", [2**22, 0])
def test_what_ranks_send_to_each_other_does_not_grow_with_the_frames(
    monkeypatch, bound
):
    sent = []
    monkeypatch.setattr(label_report, "MOST_PAIRS", bound, raising=False)
    monkeypatch.setattr(label_report, "gathered", lambda v: sent.append(v) or [v])
    expected = report_of(*BATCHES).figures(w_enhanced=0.3, w_anchor=2.0)
    few, many = sum(map(len, sent)), report_of(*BATCHES * 100)
    sent.clear()
    figures = many.figures(w_enhanced=0.3, w_anchor=2.0)
    assert figures == pytest.approx(expected, rel=1e-9)
    # With too many pairs of codes to count, the codes are sent, in two bytes each.
    assert sum(map(len, sent)) == (few if bound else 100 * few)
    assert {value.element_size() for value in sent[1:]} <= {2}


def test_a_saved_report_has_two_bytes_for_a_code():
    codes = report_of(*BATCHES).state_dict()["codes"]
    assert {kind: value.nbytes for kind, value in codes.items()} == {
        kind: 2 * G * (7 + 30 + 12) for kind in ("anchor", "enhanced")
    }


def spoken(speakers, lengths):
    """Return a batch's objective and its report; each speaker has so many frames."""
    objective, _ = batch(1, sum(lengths))
    frames = torch.tensor(lengths)
    valid = torch.arange(max(lengths)) < frames[:, None]
    report = LabelReport(num_codebooks=G, num_codes=N, enhanced=True, device="cpu")
    report.add(objective, PaddedData(valid, frames / max(lengths)), speakers)
    return objective, report


def test_bits_of_speaker_and_time_are_those_of_loops_less_chance():
    objective, report = spoken(["anna", "ben"], [20, 20])
    figures = report.figures(w_enhanced=1.0, w_anchor=1.0)
    classes = {
        "speaker": [frame // 20 for frame in range(40)],
        "time": [frame % 20 // 2 for frame in range(40)],
    }
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0)).tolist()
    for what, numbers in classes.items():
        shuffled = [numbers[place] for place in order]
        for kind in ("anchor", "enhanced"):
            columns = list(
                zip(*getattr(objective, f"{kind}_codes").tolist(), strict=True)
            )
            expected = mean(
                information(column, numbers) - information(column, shuffled)
                for column in columns
            )
            assert figures[f"{kind}_{what}_bits"] == pytest.approx(expected, abs=1e-9)


def information(first, second):
    """Mutual information in bits."""
    both = list(zip(first, second, strict=True))
    return (entropy(first) + entropy(second) - entropy(both)) / math.log(2)


def test_padding_is_no_part_of_the_time():
    _, report = spoken(["anna", "ben"], [10, 5])
    (places,) = report.places[1:]
    assert places[:, 1].tolist() == [*range(10), 0, 2, 4, 6, 8]


def test_one_speaker_has_no_figure():
    _, report = spoken(["", ""], [20, 20])
    figures = report.figures(w_enhanced=1.0, w_anchor=1.0)
    assert "anchor_speaker_bits" not in figures and "anchor_time_bits" in figures


def test_without_speakers_nothing_is_said_of_them():
    figures = report_of(*BATCHES).figures(w_enhanced=1.0, w_anchor=1.0)
    assert not [name for name in figures if "speaker" in name or "time" in name]


def test_the_cost_of_label_terms_is_part_of_the_loss():
    objective, mask = batch(1, 7)
    objective = objective._replace(label_cost=torch.tensor([3.0, 11.0]))
    figures = report_of((objective, mask)).figures(w_enhanced=0.3, w_anchor=2.0)
    assert figures["label_cost"] == pytest.approx(1.0)
    expected = 0.3 * (figures["F"] + 1.0) + 2.0 * figures["G"]
    assert figures["loss"] == pytest.approx(expected)


def test_a_report_of_an_earlier_version_is_restored():
    report = report_of(*BATCHES)
    state = report.state_dict() | {"sums": report.sums[:-1]}
    other = report_of()
    other.load_state_dict(state)
    expected = report.figures(w_enhanced=1.0, w_anchor=1.0)
    assert other.figures(w_enhanced=1.0, w_anchor=1.0) == expected


def test_speed_counts_valid_frames_and_padding(monkeypatch):
    monkeypatch.setattr(label_report.time, "monotonic", lambda: 100.0)
    report = report_of(*BATCHES)
    monkeypatch.setattr(label_report.time, "monotonic", lambda: 104.0)
    expected = {"frames_per_second": 55 / 4, "padding": 5 / 60}
    assert report.speed() == pytest.approx(expected)


def test_best_rq_has_figures_of_the_anchor_only():
    figures = report_of(*BATCHES, enhanced=False).figures(w_enhanced=0.3, w_anchor=2.0)
    assert "F" not in figures
    assert not [name for name in figures if name.startswith("enhanced")]
    assert figures["loss"] == 2.0 * figures["G"]


def test_a_batch_that_is_not_finite_enters_no_mean():
    objective, mask = batch(4, 100)
    spoiled = objective._replace(anchor_loss=torch.tensor([1.0, math.nan]))
    whole, spared = (
        report_of(*batches).figures(w_enhanced=1.0, w_anchor=1.0)
        for batches in ([*BATCHES, (spoiled, mask)], BATCHES)
    )
    for name in ("G", "F", "anchor_accuracy", "enhanced_accuracy", "loss"):
        assert whole[name] == spared[name], name


def test_a_report_without_a_finite_batch_has_no_loss():
    objective, mask = batch(4, 100)
    spoiled = objective._replace(enhanced_loss=torch.full((G,), math.inf))
    figures = report_of((spoiled, mask)).figures(w_enhanced=1.0, w_anchor=1.0)
    assert math.isnan(figures["G"]) and math.isnan(figures["loss"])


def test_a_report_is_empty_until_a_batch_is_added_and_after_a_reset():
    report = report_of()
    assert report.is_empty()
    report.add(*BATCHES[0])
    assert not report.is_empty()
    report.reset()
    assert report.is_empty()
    report.add(*BATCHES[1])
    alone = report_of(BATCHES[1])
    assert report.figures(0.3, 2.0) == alone.figures(0.3, 2.0)
    assert report.speed()["padding"] == alone.speed()["padding"]


def test_a_restored_report_continues_where_the_saved_one_was(monkeypatch):
    monkeypatch.setattr(label_report.time, "monotonic", lambda: 100.0)
    straight = report_of(*BATCHES)
    first = report_of(*BATCHES[:2])
    monkeypatch.setattr(label_report.time, "monotonic", lambda: 107.0)
    state = copy.deepcopy(first.state_dict())
    monkeypatch.setattr(label_report.time, "monotonic", lambda: 500.0)
    resumed = report_of()
    resumed.load_state_dict(state)
    resumed.add(*BATCHES[2])
    assert resumed.figures(0.3, 2.0) == straight.figures(0.3, 2.0)
    assert resumed.num_batches == 3
    assert resumed.speed()["frames_per_second"] == pytest.approx(55 / 7)
    assert resumed.speed()["padding"] == straight.speed()["padding"]


@pytest.mark.parametrize("kind", ["anchor", "enhanced"])
def test_a_low_perplexity_of_either_kind_is_a_collapse(kind, caplog):
    figures = {"anchor_perplexity": 5.0, "enhanced_perplexity": 5.0}
    warn_of_collapse(figures | {f"{kind}_perplexity": 4.9}, threshold=5.0)
    (record,) = caplog.records
    assert "COLLAPSE" in record.getMessage()
    assert f"{kind} labels" in record.getMessage()
    assert "4.9" in record.getMessage()


# In a Brain.


def test_the_first_step_reports_what_the_labels_are_worth(make_brain):
    brain = make_brain({"num_codebooks": 2}, log_interval=100)
    feed(brain, batch_of(*UNEQUAL))
    (row,) = brain.hparams.run_log.rows
    assert row["step"] == 1
    for kind in ("anchor", "enhanced"):
        assert 1 <= row[f"{kind}_perplexity"] <= row[f"{kind}_used_codes"] + 1e-9
        assert row[f"{kind}_used_codes"] <= 16
        assert 1 / 16 <= row[f"{kind}_top_share"] <= 1
        assert 0 <= row[f"{kind}_accuracy"] <= 1
    assert 0 <= row["agreement"] <= 1
    assert row["mutual_information"] >= -1e-9
    assert row["grad_norm"] > 0 and row["frames_per_second"] > 0
    frames = [(len(e["sig"]) // HOP + 1) // 2 for e in UNEQUAL]
    assert row["padding"] == pytest.approx(1 - sum(frames) / (3 * max(frames)))


def test_best_rq_reports_no_figures_of_labels_it_has_not(make_brain):
    brain = make_brain(enhanced_weight=Ramp(value=0.0))
    assert brain.enhanced is False
    feed(brain, batch_of(*UNEQUAL))
    (row,) = brain.hparams.run_log.rows
    assert "F" not in row and "agreement" not in row
    assert row["loss"] == pytest.approx(1.3 * row["G"])


def test_the_warning_of_a_collapse_names_the_remedy(make_brain, caplog):
    brain = make_brain(collapse_perplexity=3.0)
    for parameter in brain.model.encoder.layers.parameters():
        parameter.data.zero_()
    # Layer k gives the same vector for every frame.
    brain.model.encoder.layers[0].norm2.norm.bias.data[0] = 5.0
    with caplog.at_level(logging.WARNING):
        feed(brain, batch_of(*UNEQUAL))
    (row,) = brain.hparams.run_log.rows
    assert row["enhanced_used_codes"] == row["enhanced_perplexity"] == 1
    assert row["enhanced_top_share"] == 1
    warnings = [r.getMessage() for r in caplog.records if "COLLAPSE" in r.getMessage()]
    assert len(warnings) == 1
    for words in ("enhanced labels", "label_gradient: False", "label_norm: channel"):
        assert words in warnings[0]


def test_healthy_labels_raise_no_warning(make_brain, caplog):
    brain = make_brain({"label_norm": "channel"}, collapse_perplexity=1.5)
    feed(brain, batch_of(*UNEQUAL))
    assert "COLLAPSE" not in caplog.text


def test_silent_recordings_raise_the_anchor_warning(make_brain, caplog):
    brain = make_brain(collapse_perplexity=3.0, enhanced_weight=Ramp(value=0.0))
    silent = example(1) | {"sig": torch.zeros(4800)}
    feed(brain, batch_of(silent))
    assert "the anchor labels have a perplexity of 1.0" in caplog.text
    assert "l2_normalize" in caplog.text
