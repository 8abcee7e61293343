"""Tokens: round trips, the blank, run folders, refusals."""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from speechbrain_birq.decoding.tokens import (
    BLANK,
    CharacterTokens,
    SentencePieceTokens,
    load_tokens,
    make_tokens,
)
from speechbrain_birq.errors import BadInput

TEXTS = ["THE CAT SAT", "DON'T SIT", "A HAT"]


def many_texts(number=200):
    rng = random.Random(0)
    parts = ["BA", "KO", "LIM", "TER", "SUN", "DA", "PRE", "NOR"]
    words = ["".join(rng.choices(parts, k=rng.randint(1, 3))) for _ in range(60)]
    return [" ".join(rng.choices(words, k=rng.randint(2, 5))) for _ in range(number)]


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pieces")
    return SentencePieceTokens.from_texts(many_texts(), 40, folder)


def test_characters_are_those_of_the_texts_after_the_blank():
    tokens = CharacterTokens.from_texts(TEXTS)
    assert tokens.vocabulary == [BLANK, *sorted(set("".join(TEXTS)))]
    assert len(tokens) == len(tokens.vocabulary)


def test_the_space_is_a_token_even_of_single_words():
    assert " " in CharacterTokens.from_texts(["WORD"]).vocabulary


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(max_size=20), max_size=5))
def test_characters_survive_a_round_trip(texts):
    tokens = CharacterTokens.from_texts(texts)
    assert [tokens.decode(tokens.encode(text).tolist()) for text in texts] == texts


def test_characters_never_use_the_blank():
    tokens = CharacterTokens.from_texts(TEXTS)
    assert all(tokens.encode(text).min() > 0 for text in TEXTS)


def test_unknown_characters_are_left_out():
    tokens = CharacterTokens.from_texts(["AB"])
    assert tokens.decode(tokens.encode("AxB!").tolist()) == "AB"


def test_the_order_of_texts_does_not_matter():
    first = CharacterTokens.from_texts(TEXTS)
    second = CharacterTokens.from_texts(TEXTS[::-1])
    assert first.vocabulary == second.vocabulary


@pytest.mark.parametrize("text", ["", "?"])
def test_a_text_without_known_characters_gives_an_empty_int64_tensor(text):
    encoded = CharacterTokens.from_texts(["AB"]).encode(text)
    assert encoded.shape == (0,)
    assert encoded.dtype == torch.int64


def test_pieces_survive_a_round_trip(pieces):
    for text in many_texts(30):
        assert pieces.decode(pieces.encode(text).tolist()) == text


def test_pieces_start_with_the_blank_and_are_as_many_as_wanted(pieces):
    assert pieces.vocabulary[0] == BLANK
    assert len(pieces) == len(pieces.vocabulary) == 40


def test_pieces_never_use_the_blank(pieces):
    numbers = [n for text in many_texts(30) for n in pieces.encode(text).tolist()]
    assert min(numbers) > 0
    assert max(numbers) < len(pieces)


def test_an_empty_text_has_no_pieces(pieces):
    assert pieces.encode("").shape == (0,)
    assert pieces.decode([]) == ""


@pytest.mark.parametrize("kind", ["characters", "sentencepiece"])
def test_a_run_folder_gives_the_same_tokens_back(tmp_path, kind):
    texts = many_texts()
    made = make_tokens(kind, texts, 40, tmp_path)
    loaded = load_tokens(tmp_path)
    assert type(loaded) is type(made)
    assert loaded.vocabulary == made.vocabulary
    assert loaded.encode(texts[0]).tolist() == made.encode(texts[0]).tolist()


@pytest.mark.parametrize("kind", ["characters", "sentencepiece"])
def test_tokens_that_another_start_has_left_are_replaced(tmp_path, kind):
    other = [text.replace("A", "Z") for text in many_texts()]
    make_tokens(kind, other, 40, tmp_path)
    made = make_tokens(kind, many_texts(), 40, tmp_path)
    assert not any("Z" in token for token in made.vocabulary)
    assert load_tokens(tmp_path).vocabulary == made.vocabulary


@pytest.mark.parametrize("kind", ["characters", "sentencepiece"])
def test_letters_that_are_no_tokens_are_known(tmp_path, kind):
    tokens = make_tokens(kind, many_texts(), 40, tmp_path)
    assert tokens.unknown("BA KO") == set()
    assert tokens.unknown("BÄ QUÄ KO") == {"Ä", "Q"}


def test_pieces_can_be_saved_in_another_folder(pieces, tmp_path):
    pieces.save(tmp_path)
    assert load_tokens(tmp_path).vocabulary == pieces.vocabulary


def test_characters_beyond_ascii_are_kept(tmp_path):
    made = make_tokens("characters", ["ÄÖ ß 語"], 0, tmp_path)
    assert load_tokens(tmp_path).vocabulary == made.vocabulary


def test_pieces_spell_texts_as_they_are_scored(tmp_path):
    texts = ["CAFE\u0301 1\u20442", "\ufb01nd \u2460 half \u00bd", "\uff21 \u2026"]
    tokens = make_tokens("sentencepiece", texts * 5, 22, tmp_path)
    for text in texts:  # NFKC would write each of them with other letters
        assert tokens.decode(tokens.encode(text).tolist()) == text


def test_too_many_pieces_are_refused_in_one_sentence(tmp_path):
    with pytest.raises(BadInput, match=r"5000 tokens.*change num_tokens"):
        make_tokens("sentencepiece", TEXTS, 5000, tmp_path)


def test_an_unknown_kind_is_refused(tmp_path):
    with pytest.raises(BadInput, match="characters or sentencepiece, got 'words'"):
        make_tokens("words", TEXTS, 10, tmp_path)


def test_a_folder_without_tokens_is_refused(tmp_path):
    with pytest.raises(BadInput, match="holds no tokens"):
        load_tokens(tmp_path)
    with pytest.raises(BadInput, match="nowhere is no folder: give the output_folder"):
        load_tokens(tmp_path / "nowhere")


CORRUPT = {
    "characters.json": [
        b"",
        b"\xff",
        b"[",
        b"{}",
        b"7",
        b"[]",
        b'["A"]',
        b'["<blank>", 1]',
        b"[" * 100_000,
    ],
    "sentencepiece.model": [b"", b"garbage"],
}


@pytest.mark.faults
@pytest.mark.parametrize("name, content", [(n, c) for n in CORRUPT for c in CORRUPT[n]])
def test_corrupt_tokens_are_named(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(BadInput) as caught:
        load_tokens(tmp_path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["characters", "sentencepiece"])
def test_tokens_of_the_other_kind_are_replaced(tmp_path, kind):
    other = {"characters": "sentencepiece", "sentencepiece": "characters"}[kind]
    make_tokens(other, many_texts(), 40, tmp_path)
    made = make_tokens(kind, many_texts(), 40, tmp_path)
    assert load_tokens(tmp_path).vocabulary == made.vocabulary
