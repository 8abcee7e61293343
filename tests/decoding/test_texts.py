"""Texts that cannot be learned or spelled: counted, named, refused where it must be."""

import logging

import pytest

from speechbrain_birq.data.splits import Spoken
from speechbrain_birq.decoding.texts import check_texts
from speechbrain_birq.decoding.tokens import CharacterTokens
from speechbrain_birq.errors import BadInput

pytestmark = pytest.mark.faults

TOKENS = CharacterTokens.from_texts(["ABC"])
GOOD = Spoken("good", 800, "AB")


def check(stage, *utterances):
    check_texts(TOKENS, "en", utterances, lambda samples: samples // 160, stage)


@pytest.mark.parametrize("stage", ["train", "valid", "test"])
def test_nothing_is_said_about_good_texts(caplog, stage):
    check(stage, GOOD, Spoken("just", 320, "AB"), Spoken("other", 480, "BB"))
    assert not caplog.records


@pytest.mark.parametrize("stage", ["valid", "test"])
def test_unknown_letters_are_counted_once_a_split(caplog, stage):
    check(stage, GOOD, Spoken("x-1", 1600, "AÄ"), Spoken("x-2", 1600, "A!Ä"))
    (line,) = caplog.messages
    for fact in ("2 of 3", "'en'", "'!', 'Ä'", "x-1, x-2"):
        assert fact in line


def test_unknown_letters_are_refused_in_training():
    with pytest.raises(BadInput, match=r"1 of 2 .*'en'.*'Ä'.*x-1"):
        check("train", GOOD, Spoken("x-1", 1600, "AÄ"))


@pytest.mark.parametrize("stage", ["train", "valid", "test"])
@pytest.mark.parametrize("text", ["ABC", "AA"])
def test_texts_longer_than_their_frames_are_named(caplog, stage, text):
    check(stage, GOOD, Spoken("long-1", 320, text))
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "1 of 2" in record.getMessage() and "long-1" in record.getMessage()


@pytest.mark.parametrize("stage", ["train", "valid"])
def test_a_split_without_a_text_that_fits_is_refused(stage):
    with pytest.raises(BadInput, match=r"2 of 2 .*'en'.*long-1, long-2"):
        check(stage, Spoken("long-1", 320, "ABC"), Spoken("long-2", 320, "AA"))
