"""Word times and confidences, against loops in float64."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from speechbrain_birq.decoding.decoders import BeamDecoder, GreedyDecoder, make_decoder
from speechbrain_birq.decoding.tokens import CharacterTokens, SentencePieceTokens
from speechbrain_birq.decoding.words import (
    aligned_path,
    best_path,
    confidence,
    emissions,
    words_of,
)
from speechbrain_birq.errors import BadInput

TOKENS = CharacterTokens.from_texts(["AB C"])  # blank, space, A, B, C
STEP, SHIFT = 0.04, 0.005


def scores(path, num_tokens=5, seed=0):
    """(T, V) log probabilities whose best path is given."""
    noise = torch.rand(
        len(path), num_tokens, generator=torch.Generator().manual_seed(seed)
    )
    noise[torch.arange(len(path)), torch.tensor(path)] += 1
    return noise.log_softmax(-1)


def words_by_loops(log_probs, path):
    """(word, start, end, confidence) frame by frame, in float64."""
    probabilities = log_probs.double().exp()
    words, current, previous = [], None, 0
    for frame, token in enumerate(path):
        if token == 0 or TOKENS.vocabulary[token] == " ":
            if token:
                current = None
            previous = token
            continue
        p = probabilities[frame, token].item()
        if current is None:
            current = {"text": "", "first": frame, "peaks": []}
            words.append(current)
        if token == previous:
            current["peaks"][-1] = max(current["peaks"][-1], p)
        else:
            current["text"] += TOKENS.vocabulary[token]
            current["peaks"].append(p)
        current["last"], previous = frame, token
    return [
        (
            word["text"],
            max(0.0, word["first"] * STEP - SHIFT),
            word["last"] * STEP + STEP - SHIFT,
            math.prod(word["peaks"]) ** (1 / len(word["peaks"])),
        )
        for word in words
    ]


paths = st.lists(st.integers(0, 4), min_size=1, max_size=30)


@given(paths, st.integers(0, 99))
def test_words_of_the_best_path_are_those_of_the_loops(path, seed):
    log_probs = scores(path, seed=seed)
    found = emissions(log_probs, best_path(log_probs))
    words = words_of(found, TOKENS, frame_seconds=STEP, shift=SHIFT)
    expected = words_by_loops(log_probs, path)
    assert [word.word for word in words] == [word[0] for word in expected]
    for word, right in zip(words, expected, strict=True):
        assert word[1:] == pytest.approx(right[1:], abs=1e-6)
    (text,) = GreedyDecoder(TOKENS)(log_probs[None], torch.tensor([len(path)]))
    assert " ".join(word.word for word in words) == text


@given(paths, st.integers(0, 99))
def test_the_best_path_is_the_best_alignment_of_its_own_text(path, seed):
    log_probs = scores(path, seed=seed)
    found = emissions(log_probs, best_path(log_probs))
    aligned = aligned_path(log_probs, torch.tensor([e.token for e in found]).long())
    assert aligned.tolist() == path


def test_a_text_that_needs_more_frames_has_no_alignment():
    log_probs = scores([2, 0, 2])
    assert aligned_path(log_probs, torch.tensor([2, 2])).tolist() == [2, 0, 2]
    assert aligned_path(log_probs[:2], torch.tensor([2, 2])) is None


def test_no_token_is_no_confidence():
    assert confidence([]) == 0.0
    assert emissions(scores([0, 0]), torch.tensor([0, 0])) == []


def test_pieces_of_sentencepiece_begin_words(tmp_path):
    tokens = SentencePieceTokens.from_texts(["ABA BAB", "AB BA ABBA"] * 9, 7, tmp_path)
    numbers = tokens.encode("ABBA BA").tolist()
    path = [number for n in numbers for number in (n, 0)]
    log_probs = scores(path, len(tokens))
    found = emissions(log_probs, best_path(log_probs))
    words = words_of(found, tokens, frame_seconds=STEP, shift=0)
    assert [word.word for word in words] == ["ABBA", "BA"]
    assert words[0].end <= words[1].start


# Hypotheses of the decoders.


def test_greedy_scores_its_best_path():
    log_probs = scores([2, 0, 3])
    batch = torch.cat((log_probs, torch.zeros(2, 5)))[None]
    ((found,),) = GreedyDecoder(TOKENS).hypotheses(batch, torch.tensor([3]))
    assert found.text == "AB"
    assert found.score == pytest.approx(log_probs.double().amax(-1).sum().item())


def test_n_best_are_different_texts_the_best_first():
    log_probs = scores([2, 0, 3, 1, 4], seed=3)[None]
    lengths = torch.tensor([5])
    decoder = BeamDecoder(TOKENS, beam_size=20, num_best=4)
    (found,) = decoder.hypotheses(log_probs, lengths)
    assert len({each.text for each in found}) == 4
    assert [each.score for each in found] == sorted(
        (each.score for each in found), reverse=True
    )
    assert decoder(log_probs, lengths) == [found[0].text]


# Their quotient, times the padded length, is less than the length in float32.
@pytest.mark.parametrize(("length", "padded"), [(13, 22), (7, 23), (3, 37)])
def test_padding_does_not_cost_the_beam_search_a_frame(length, padded):
    assert int(torch.tensor(length) / padded * padded) < length
    path = [0] * (length - 1) + [2] + [0] * (padded - length)
    log_probs = scores(path)[None] * 4
    decoded = BeamDecoder(TOKENS, beam_size=5)(log_probs, torch.tensor([length]))
    assert decoded == ["A"]


@pytest.mark.parametrize("number", [0, -1])
def test_less_than_one_hypothesis_is_refused(number):
    with pytest.raises(BadInput, match=str(number)):
        make_decoder("beam", TOKENS, num_best=number)


def test_greedy_has_one_hypothesis():
    with pytest.raises(BadInput, match="--decoding beam"):
        make_decoder("greedy", TOKENS, num_best=2)
