"""The loss of fine-tuning against a sum over all alignments, in float64."""

import itertools
import math

import pytest
import speechbrain as sb
import torch
from small_brains import TOKENS, batch_of, example

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
