"""bfloat16: the encoder is autocast, labels and losses are float32."""

import torch
from small_brains import (
    SPOKEN,
    UNEQUAL,
    batch_of,
    feed,
    moved,
    parameters,
)


def test_bfloat16_trains_with_float32_labels(make_brain):
    full, half = (
        make_brain({"num_codebooks": 4}, precision=p) for p in ("fp32", "bf16")
    )
    objectives = [brain.inner_step(batch_of(*UNEQUAL)) for brain in (full, half)]
    assert torch.equal(objectives[0].anchor_codes, objectives[1].anchor_codes)
    assert objectives[1].anchor_loss.dtype == torch.float32
    assert not torch.equal(objectives[0].anchor_loss, objectives[1].anchor_loss)
    assert torch.allclose(
        objectives[0].anchor_loss, objectives[1].anchor_loss, rtol=0.05
    )
    start = parameters(half)
    losses = feed(half, *[batch_of(*UNEQUAL)] * 3)
    assert all(torch.isfinite(loss) for loss in losses)
    # One shared output layer and no label path: every parameter learns.
    assert moved(start, parameters(half)) == start.keys()


def test_labels_are_computed_in_float32_whatever_the_precision(make_brain):
    brain, seen = make_brain({"label_norm": "channel"}, precision="bf16"), {}
    quantizer, selector = brain.model.enhanced_quantizer, brain.model.selector
    original = quantizer.distances
    quantizer.distances = lambda z: seen.setdefault("distances", original(z))
    selector.register_forward_hook(lambda m, i, o: seen.setdefault("labels", o))
    feed(brain, batch_of(*UNEQUAL))
    assert {name: value.dtype for name, value in seen.items()} == dict.fromkeys(
        ("distances", "labels"), torch.float32
    )


def test_ctc_in_bfloat16_is_finite(make_ctc):
    brain = make_ctc(precision="bf16")
    assert torch.isfinite(torch.stack(feed(brain, *[batch_of(*SPOKEN)] * 2))).all()
