"""The raster: a code is named and colored by the unit that it most often stands for."""

import pytest
import torch

from speechbrain_birq.diagnostics.raster import (
    GREY,
    draw_raster,
    majority_units,
    runs,
    unit_colors,
)
from speechbrain_birq.diagnostics.spoken import Truth
from speechbrain_birq.models.frontend import FrontEnd

FRONTEND = FrontEnd(n_mels=20, stack=4)
NAMES = ["silence", "a", "b"]
SPOKEN = torch.tensor([0, 0, 1, 1, 1, 2, 2, 0])
CODES = torch.tensor([9, 9, 4, 4, 5, 6, 6, 9])  # 5 stands for a, too


@pytest.fixture
def figure():
    elsewhere = torch.tensor([2, 2, 2, 1])  # a second utterance: there 4 is b
    truth = Truth([SPOKEN, elsewhere], NAMES)
    codes = [CODES[:, None], torch.tensor([[6], [6], [4], [5]])]
    mels = torch.zeros(8 * FRONTEND.stack, 20)
    return draw_raster(mels, {"anchor": codes}, truth, "phone", FRONTEND)


def boxes(axes):
    """(begin, color) of each box."""
    return [(box.get_x(), box.get_facecolor()) for box in axes.patches]


def test_majority_is_that_of_a_loop():
    generator = torch.Generator().manual_seed(0)
    codes, spoken = torch.randint(12, (2, 400), generator=generator)
    found = majority_units(codes, spoken, 12)
    for code in codes.unique().tolist():
        units = [
            u for c, u in zip(codes.tolist(), spoken.tolist(), strict=True) if c == code
        ]
        assert units.count(found[code]) == max(map(units.count, units))


def test_codes_of_the_same_phone_have_its_color_and_their_own_boxes(figure):
    _, phones, labels = figure.axes
    spoken, coded = boxes(phones), boxes(labels)
    width = FRONTEND.frame_ms / 1000
    assert [x for x, _ in spoken] == pytest.approx([0, 2 * width, 5 * width, 7 * width])
    assert [x for x, _ in coded] == pytest.approx(
        [0, 2 * width, 4 * width, 5 * width, 7 * width]
    )
    a, b = spoken[1][1], spoken[2][1]
    assert [color for _, color in coded] == [GREY, a, a, b, GREY]
    assert len({GREY, a, b}) == 3


def test_boxes_are_named_but_for_silence(figure):
    _, phones, labels = figure.axes
    assert [text.get_text() for text in phones.texts] == ["a", "b"]
    assert [text.get_text() for text in labels.texts] == ["a", "a", "b"]


def test_the_share_of_right_frames_counts_all_utterances(figure):
    """Of 12 frames only that of code 4 in the second utterance is wrong."""
    assert figure.axes[2].get_ylabel() == "anchor\n92% right"


def test_a_run_ends_where_the_code_changes():
    track = torch.tensor([[3, 1], [3, 1], [4, 1], [4, 0]])
    assert runs(track) == [(0, 2, 1), (2, 3, 1), (3, 4, 0)]


def test_the_most_frequent_units_have_different_colors():
    colors = unit_colors(torch.arange(28))
    assert len(set(colors.values())) == 28
    assert colors[0] == GREY
