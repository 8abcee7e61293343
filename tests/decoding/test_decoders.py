"""Decoding: greedy against a loop, beam on certain frames, hand-counted errors."""

import math
import random

import pytest
import torch

from speechbrain_birq.decoding.decoders import (
    BeamDecoder,
    ErrorCounter,
    GreedyDecoder,
    make_decoder,
)
from speechbrain_birq.decoding.tokens import CharacterTokens, SentencePieceTokens
from speechbrain_birq.errors import BadInput

TOKENS = CharacterTokens(["<blank>", " ", "A", "B", "C"])


def greedy_loop(log_probs, length):
    """Best token of each frame, repetitions merged, blanks dropped."""
    text, last = "", 0
    for frame in log_probs[:length].tolist():
        best = frame.index(max(frame))
        if best not in (last, 0):
            text += TOKENS.vocabulary[best]
        last = best
    return " ".join(text.split())


def peaked(ids, size=5, sharpness=12.0):
    """Log probabilities that are nearly certain of one token a frame."""
    return (sharpness * torch.eye(size)[torch.tensor(ids)]).log_softmax(-1)


def test_greedy_decoding_is_that_of_a_loop():
    log_probs = torch.randn(
        6, 50, 5, generator=torch.Generator().manual_seed(0)
    ).log_softmax(-1)
    lengths = torch.tensor([50, 49, 33, 7, 1, 0])
    expected = [greedy_loop(*pair) for pair in zip(log_probs, lengths, strict=True)]
    assert GreedyDecoder(TOKENS)(log_probs, lengths) == expected


def test_greedy_decoding_ignores_padding():
    log_probs = peaked([[2, 0, 3, 4, 4]])
    assert GreedyDecoder(TOKENS)(log_probs, torch.tensor([3])) == ["AB"]


def test_a_blank_separates_equal_tokens():
    decode = GreedyDecoder(TOKENS)
    assert decode(peaked([[2, 2, 0, 2]]), torch.tensor([4])) == ["AA"]


def test_spaces_at_the_ends_and_in_a_row_vanish():
    log_probs = peaked([[1, 2, 1, 0, 1, 3, 1]])
    assert GreedyDecoder(TOKENS)(log_probs, torch.tensor([7])) == ["A B"]


def test_only_blanks_give_an_empty_text():
    assert GreedyDecoder(TOKENS)(peaked([[0, 0]]), torch.tensor([2])) == [""]


def test_the_beam_finds_the_greedy_text_where_frames_are_certain():
    rng = random.Random(0)
    ids = [[rng.choice([0, 0, 1, 2, 3, 4]) for _ in range(30)] for _ in range(4)]
    log_probs, lengths = peaked(ids), torch.tensor([30, 30, 22, 9])
    beam = make_decoder("beam", TOKENS, beam_size=10)
    found = [" ".join(text.split()) for text in beam(log_probs, lengths)]
    assert found == GreedyDecoder(TOKENS)(log_probs, lengths)


def test_the_beam_adds_up_paths_of_the_same_text():
    """Greedy sees two blanks; all paths that say A are more likely together."""
    log_probs = torch.tensor([[[0.6, 0, 0.4, 0, 0], [0.6, 0, 0.4, 0, 0]]])
    log_probs = log_probs.clamp_min(1e-9).log()
    lengths = torch.tensor([2])
    assert GreedyDecoder(TOKENS)(log_probs, lengths) == [""]
    assert BeamDecoder(TOKENS, beam_size=10)(log_probs, lengths) == ["A"]


@pytest.mark.parametrize("kind", ["greedy", "beam"])
def test_pieces_are_joined_to_words(tmp_path, kind):
    words = ["BANANA", "LEMON", "MELON", "NOMAD"]
    texts = [" ".join(random.Random(i).choices(words, k=3)) for i in range(100)]
    tokens = SentencePieceTokens.from_texts(texts, 14, tmp_path)
    ids = [n for number in tokens.encode("LEMON NOMAD").tolist() for n in (number, 0)]
    log_probs = peaked([ids], size=len(tokens))
    decode = make_decoder(kind, tokens, beam_size=10)
    assert decode(log_probs, torch.tensor([len(ids)])) == ["LEMON NOMAD"]


def test_an_unknown_decoding_is_refused():
    with pytest.raises(BadInput, match="greedy or beam, got 'best'"):
        make_decoder("best", TOKENS)


@pytest.fixture
def counter():
    """Words: 1 substitution, 1 deletion, 1 insertion in 3 + 2 + 1 + 1 words."""
    counter = ErrorCounter()
    counter.append(["a", "b"], ["THE CAT SIT", "HELLO"], ["THE CAT SAT", "HELLO YOU"])
    counter.append(["c", "d"], ["SO YES", "NO"], ["YES", "NO"])
    return counter


def test_word_errors_are_those_counted_by_hand(counter):
    assert counter.rates().wer == pytest.approx(100 * 3 / 7)


def test_character_errors_are_those_counted_by_hand(counter):
    """SAT/SIT 1, " YOU" 4, "SO " 3; spaces count: 11 + 9 + 3 + 2 characters."""
    assert counter.rates().cer == pytest.approx(100 * 8 / 25)


def test_errors_of_each_utterance_are_those_counted_by_hand(counter):
    rows = [tuple(row.values()) for row in counter.utterances()]
    assert rows == [
        ("a", 1, 3, 1, 11),
        ("b", 1, 2, 4, 9),
        ("c", 1, 1, 3, 3),
        ("d", 0, 1, 0, 2),
    ]


def test_perfect_texts_have_no_errors():
    counter = ErrorCounter()
    counter.append(["a"], ["A B C"], ["A B C"])
    assert counter.rates() == (0, 0)


def test_silence_instead_of_words_is_all_deletions():
    counter = ErrorCounter()
    counter.append(["a"], [""], ["A BC"])
    assert counter.rates() == (100, 100)


@pytest.mark.parametrize("said", [["ONE", "ONE"], ["TEN", "TEN"]])
def test_worthless_alignments_are_called_so(tmp_path, said):
    errors = ErrorCounter()
    errors.append(["a", "b"], said, ["ONE", "ONE"])
    errors.write(tmp_path / "wer.txt")
    (first, *_) = (tmp_path / "wer.txt").read_text().splitlines()
    worthless = errors.rates().cer > 50
    assert worthless == (said == ["TEN", "TEN"])
    assert first.startswith("CER 100.0 %" if worthless else "%WER 0.00")


def test_alignments_of_every_utterance_are_written(counter, tmp_path):
    counter.write(tmp_path / "wer.txt")
    text = (tmp_path / "wer.txt").read_text(encoding="utf-8")
    assert all(word in text for word in ("SAT", "SIT", "HELLO", "YES"))


@pytest.mark.parametrize("weights", [{"alpha": math.nan}, {"beta": math.inf}])
def test_weights_that_are_not_finite_are_refused(weights):
    decoder = BeamDecoder(TOKENS)
    with pytest.raises(BadInput, match=f"{next(iter(weights))} .* is no weight"):
        BeamDecoder(TOKENS, **weights)
    with pytest.raises(BadInput, match="is no weight"):
        decoder.weigh(**({"alpha": 0.5, "beta": 1.5} | weights))
