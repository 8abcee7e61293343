"""Filters, projections and codes in half precision, labels beside TF32."""

import pytest
import torch

from speechbrain_birq.models.full_precision import full_precision
from speechbrain_birq.models.labels.k_means import nearest

KEPT = ("frontend", "anchor_quantizer", "enhanced_quantizer")


@pytest.mark.parametrize("move", ["half", "bfloat16"])
@pytest.mark.parametrize("part", KEPT)
def test_half_precision_does_not_round(part, move, make_model):
    model = make_model()
    before = {
        name: value.clone() for name, value in getattr(model, part).named_buffers()
    }
    getattr(model, move)()
    after = dict(getattr(model, part).named_buffers())
    assert any(value.is_floating_point() for value in before.values())
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, atol=0, rtol=0)
    assert next(model.encoder.parameters()).dtype in (torch.float16, torch.bfloat16)


MATMUL = torch.backends.cuda.matmul
NEW = hasattr(MATMUL, "fp32_precision")  # from torch 2.9 on


def rounded():
    return MATMUL.fp32_precision != "ieee" if NEW else MATMUL.allow_tf32


@pytest.mark.parametrize("before", ["highest", "high", "medium"])
def test_the_precision_of_other_products_is_what_it_was(before):
    known = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(before)
    with full_precision(torch.device("cpu")):
        assert not rounded()
    assert torch.get_float32_matmul_precision() == before
    torch.set_float32_matmul_precision(known)


@pytest.fixture
def tf32():
    """TF32 is on, as it is once SpeechBrain is imported."""
    before, MATMUL.allow_tf32 = MATMUL.allow_tf32, True
    yield
    MATMUL.allow_tf32 = before


@pytest.mark.parametrize("product", ["matmul", "einsum", "cdist"])
def test_products_that_decide_labels_are_not_rounded_to_tf32(
    product, make_model, monkeypatch, tf32
):
    model, inputs = make_model(), (torch.randn(2, 8000), torch.ones(2))
    call = {
        "matmul": lambda: model.frontend(*inputs),
        "einsum": lambda: model.anchor_quantizer(torch.randn(5, 40)),
        "cdist": lambda: nearest(torch.randn(5, 4), torch.randn(8, 4)),
    }[product]
    original, seen = getattr(torch, product), []

    def spied(*args, **kwargs):
        seen.append(rounded())
        return original(*args, **kwargs)

    monkeypatch.setattr(torch, product, spied)
    assert rounded()
    call()
    assert seen and not any(seen)
    assert rounded() and MATMUL.allow_tf32
