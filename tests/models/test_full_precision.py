"""A model moved to half precision keeps its filters, projections and codes."""

import pytest
import torch

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
