"""The loss of fine-tuning against a sum over all alignments, in float64."""

import itertools
import math

import pytest
import speechbrain as sb
import torch
from small_brains import TOKENS, batch_of, example

from speechbrain_birq.brains.ctc import num_learnable
from speechbrain_birq.data.loaders import Collate
from speechbrain_birq.models.ctc import CTCOutput

BLANK, TIME = 0, 4


def collapsed(path):
    """An alignment without its repetitions and blanks."""
    return [token for token, _ in itertools.groupby(path) if token != BLANK]


def minus_log_prob(log_probs, text):
    """−log of the sum of the probabilities of all alignments of a text."""
    total = 0.0
    for path in itertools.product(range(len(TOKENS)), repeat=len(log_probs)):
        if collapsed(path) == text:
            total += math.exp(sum(log_probs[t][v] for t, v in enumerate(path)))
    return -math.log(total)


def test_the_loss_of_training_is_that_of_all_alignments(make_ctc):
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(3, TIME, len(TOKENS), generator=generator)
    log_probs, lengths = scores.log_softmax(-1), torch.tensor([4, 3, 4])
    texts = ["AB", "A", "DD"]
    batch = batch_of(*(example(i, text=text) for i, text in enumerate(texts)))
    output = CTCOutput(log_probs, lengths)
    found = make_ctc().compute_objectives(output, batch, sb.Stage.TRAIN)
    expected = sum(
        minus_log_prob(rows[:length], TOKENS.encode(text).tolist())
        for rows, length, text in zip(
            log_probs.double().tolist(), lengths.tolist(), texts, strict=True
        )
    )
    assert found.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.faults
def test_texts_without_an_alignment_are_out_of_the_mean(make_ctc):
    """DD needs three frames, ABC DE six; A and AB have as many as they need."""
    scores = torch.zeros(4, TIME, len(TOKENS)).log_softmax(-1)
    output = CTCOutput(scores, torch.tensor([1, 2, 2, 4]))
    texts = ["A", "AB", "DD", "ABC DE"]
    batch = batch_of(*(example(i, text=text) for i, text in enumerate(texts)))
    brain = make_ctc()
    brain.compute_objectives(output, batch, sb.Stage.TRAIN)
    # A uniform model: one alignment each, of one and of two frames.
    assert num_learnable(output, batch) == 3
    assert brain.losses[sb.Stage.TRAIN].mean() == pytest.approx(math.log(len(TOKENS)))


def test_a_batch_of_empty_texts_has_nothing_to_learn():
    batch = Collate(min_samples=1)([example(0, text=""), example(1, text="")])
    output = CTCOutput(torch.zeros(2, TIME, len(TOKENS)), torch.tensor([4, 4]))
    assert num_learnable(output, batch) == 0
