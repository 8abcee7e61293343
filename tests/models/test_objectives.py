"""Objectives: losses against loops, gradients, chunks, heads, penalty sum."""

import math

import pytest
import torch

from speechbrain_birq.models.objectives import (
    PredictionHeads,
    code_counts,
    cross_entropy,
    masked_objective,
    penalty_sum,
)

M, H, N = 7, 6, 5


def log_softmax(row):
    top = max(row)
    total = top + math.log(sum(math.exp(v - top) for v in row))
    return [v - total for v in row]


def loop_cross_entropy(logits, labels):
    """-sum_t y_t log softmax(o_t) for each codebook; labels int or distribution."""
    sums = [0.0] * logits.shape[1]
    for t, frame in enumerate(logits.double().tolist()):
        for g, row in enumerate(frame):
            log_probs = log_softmax(row)
            label = labels[t][g]
            if isinstance(label, int):
                sums[g] -= log_probs[label]
            else:
                sums[g] -= sum(y * p for y, p in zip(label, log_probs, strict=True))
    return sums


def case(groups=1, frames=M, shared=True, seed=0):
    """states, heads, codes, soft labels; leaves with gradients."""
    generator = torch.Generator().manual_seed(seed)
    heads = PredictionHeads(
        input_dim=H, num_codebooks=groups, num_codes=N, shared=shared
    )
    for parameter in heads.parameters():
        torch.nn.init.normal_(parameter, generator=generator)
    states = torch.randn(frames, H, generator=generator, requires_grad=True)
    codes = torch.randint(N, (frames, groups), generator=generator)
    soft = torch.randn(frames, groups, N, generator=generator).softmax(-1)
    return states, heads, codes, soft.requires_grad_()


def assert_sums(values, expected):
    torch.testing.assert_close(
        values.detach().double(), torch.tensor(expected, dtype=torch.float64),
        rtol=1e-5, atol=1e-5,
    )  # fmt: skip


@pytest.mark.parametrize("groups", [1, 4])
def test_cross_entropy_of_hard_labels_is_that_of_a_loop(groups):
    logits = 4 * torch.randn(M, groups, N, generator=torch.Generator().manual_seed(0))
    codes = torch.randint(N, (M, groups))
    assert_sums(
        cross_entropy(logits, codes), loop_cross_entropy(logits, codes.tolist())
    )


@pytest.mark.parametrize("groups", [1, 4])
def test_cross_entropy_of_soft_labels_is_that_of_a_loop(groups):
    logits = 4 * torch.randn(M, groups, N, generator=torch.Generator().manual_seed(0))
    soft = torch.randn(M, groups, N).softmax(-1)
    expected = loop_cross_entropy(logits, soft.double().tolist())
    assert_sums(cross_entropy(logits, soft), expected)


def test_a_one_hot_distribution_costs_as_much_as_its_code():
    logits, codes = torch.randn(M, 2, N), torch.randint(N, (M, 2))
    soft = torch.nn.functional.one_hot(codes, N).float()
    torch.testing.assert_close(
        cross_entropy(logits, soft), cross_entropy(logits, codes)
    )


def test_a_uniform_guess_costs_log_n():
    codes = torch.zeros(3, 1, dtype=torch.long)
    assert_sums(cross_entropy(torch.zeros(3, 1, 256), codes), [3 * math.log(256)])


def test_the_gradient_of_soft_labels_is_minus_the_log_probability():
    logits = torch.randn(M, 2, N)
    soft = torch.randn(M, 2, N).softmax(-1).requires_grad_()
    cross_entropy(logits, soft).sum().backward()
    torch.testing.assert_close(soft.grad, -logits.log_softmax(-1))


def test_the_gradient_of_logits_is_probability_minus_label():
    logits = torch.randn(M, 2, N, requires_grad=True)
    soft = torch.randn(M, 2, N).softmax(-1)
    cross_entropy(logits, soft).sum().backward()
    torch.testing.assert_close(logits.grad, logits.detach().softmax(-1) - soft)


def test_cross_entropy_of_bfloat16_logits_is_float32():
    logits = torch.randn(M, 1, N).bfloat16()
    codes = torch.randint(N, (M, 1))
    assert cross_entropy(logits, codes).dtype == torch.float32
    assert_sums(
        cross_entropy(logits, codes), loop_cross_entropy(logits, codes.tolist())
    )


def test_autocast_does_not_round_the_loss_of_soft_labels():
    """``vecdot`` is one of the products that autocast rounds."""
    logits = torch.randn(4000, 1, N).bfloat16()
    soft = torch.randn(4000, 1, N).softmax(-1)
    expected = cross_entropy(logits, soft)
    with torch.autocast("cpu", torch.bfloat16):
        found = cross_entropy(logits, soft)
    torch.testing.assert_close(found, expected, atol=0, rtol=0)


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("shared", [True, False])
def test_the_objective_holds_the_sums_of_both_losses(groups, shared):
    states, heads, codes, soft = case(groups, shared=shared)
    result = masked_objective(states, heads, codes, soft)
    upper = heads.anchor if shared else heads.enhanced
    logits, upper_logits = (
        layer(states).detach().reshape(M, groups, N) for layer in (heads.anchor, upper)
    )
    assert_sums(result.anchor_loss, loop_cross_entropy(logits, codes.tolist()))
    assert_sums(result.enhanced_loss, loop_cross_entropy(upper_logits, soft.tolist()))


@pytest.mark.parametrize("shared", [True, False])
def test_the_objective_counts_correct_codes(shared):
    states, heads, codes, soft = case(3, frames=40, shared=shared)
    result = masked_objective(states, heads, codes, soft, chunk=7)
    upper = heads.anchor if shared else heads.enhanced
    right, upper_right = [0] * 3, [0] * 3
    for t in range(40):
        for g in range(3):
            rows = [
                layer(states[t]).tolist()[g * N : g * N + N]
                for layer in (heads.anchor, upper)
            ]
            best, upper_best = (row.index(max(row)) for row in rows)
            label = soft[t, g].tolist()
            right[g] += best == codes[t, g].item()
            upper_right[g] += upper_best == label.index(max(label))
    assert result.anchor_correct.tolist() == right
    assert result.enhanced_correct.tolist() == upper_right


def test_the_objective_reports_codes_and_frames():
    states, heads, codes, soft = case(2)
    result = masked_objective(states, heads, codes, soft, chunk=3)
    assert result.num_frames.item() == M
    assert torch.equal(result.anchor_codes, codes)
    assert torch.equal(result.enhanced_codes, soft.argmax(-1))


def test_without_enhanced_labels_only_the_anchor_counts():
    states, heads, codes, soft = case(2)
    alone = masked_objective(states, heads, codes, None)
    both = masked_objective(states, heads, codes, soft)
    torch.testing.assert_close(alone.anchor_loss, both.anchor_loss)
    assert alone.enhanced_loss.tolist() == [0, 0]
    assert alone.enhanced_correct.tolist() == [0, 0]
    assert alone.enhanced_codes.shape == (0, 2)


@pytest.mark.parametrize("chunk", [1, 2, 3, 6, 7, 8])
@pytest.mark.parametrize("shared", [True, False])
def test_chunks_change_neither_values_nor_gradients(chunk, shared):
    results = []
    for size in (chunk, 2048):
        states, heads, codes, soft = case(4, shared=shared)
        objective = masked_objective(states, heads, codes, soft, chunk=size)
        penalty_sum(objective, 0.3, 0.7).backward()
        gradients = [states.grad, soft.grad, *(p.grad for p in heads.parameters())]
        results.append([*objective[:5], *gradients])
    for mine, whole in zip(*results, strict=True):
        torch.testing.assert_close(mine, whole, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("chunk", "kept"), [(8, False), (64, True)])
def test_chunks_do_not_keep_logits_for_the_backward_pass(chunk, kept):
    states, heads, codes, _ = case(1, frames=64)
    shapes = []

    def pack(tensor):
        shapes.append(tuple(tensor.shape))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        masked_objective(states, heads, codes, None, chunk=chunk)
    assert ((chunk, 1, N) in shapes) is kept


def test_without_gradients_chunks_give_the_same_values():
    states, heads, codes, soft = case(2)
    with torch.no_grad():
        few = masked_objective(states, heads, codes, soft, chunk=2)
    torch.testing.assert_close(
        few[:5], masked_objective(states, heads, codes, soft)[:5]
    )


@pytest.mark.parametrize("enhanced", [True, False])
def test_no_masked_frame_gives_a_loss_of_zero_with_a_graph(enhanced):
    states, heads, codes, soft = case(2, frames=0)
    result = masked_objective(states, heads, codes, soft if enhanced else None)
    loss = penalty_sum(result, 0.1, 2.4)
    loss.backward()
    assert loss.item() == 0
    assert result.num_frames.item() == 0
    assert states.grad.shape == (0, H)
    assert all(p.grad.abs().max() == 0 for p in heads.parameters())


def test_the_gradient_flows_into_soft_labels():
    states, heads, codes, soft = case(2)
    masked_objective(states, heads, codes, soft).enhanced_loss.sum().backward()
    expected = -heads.anchor_logits(states.detach()).log_softmax(-1).detach()
    torch.testing.assert_close(soft.grad, expected)


def test_a_shared_head_is_one_layer():
    heads = PredictionHeads(input_dim=H, num_codebooks=2, num_codes=N)
    states = torch.randn(3, H)
    assert len(list(heads.parameters())) == 2
    assert torch.equal(heads.anchor_logits(states), heads.enhanced_logits(states))


def test_separate_heads_learn_from_their_own_loss_only():
    states, heads, codes, soft = case(2, shared=False)
    masked_objective(states, heads, codes, soft).anchor_loss.sum().backward()
    assert heads.anchor.weight.grad.abs().max() > 0
    assert heads.enhanced.weight.grad is None or heads.enhanced.weight.grad.eq(0).all()


@pytest.mark.parametrize("groups", [1, 4])
def test_the_penalty_sum_weighs_the_mean_over_codebooks(groups):
    states, heads, codes, soft = case(groups)
    result = masked_objective(states, heads, codes, soft)
    upper = sum(result.enhanced_loss.tolist()) / groups
    lower = sum(result.anchor_loss.tolist()) / groups
    assert penalty_sum(result, 0.1, 2.4).item() == pytest.approx(
        0.1 * upper + 2.4 * lower, rel=1e-5
    )


def test_sums_of_two_halves_are_the_sum_of_the_whole():
    states, heads, codes, soft = case(2)
    whole = penalty_sum(masked_objective(states, heads, codes, soft), 0.1, 2.4)
    halves = sum(
        penalty_sum(masked_objective(states[h], heads, codes[h], soft[h]), 0.1, 2.4)
        for h in (slice(0, 2), slice(2, M))
    )
    torch.testing.assert_close(whole, halves)


def test_codes_are_counted_for_each_codebook():
    codes = torch.randint(N, (50, 3))
    expected = [
        [sum(row[g] == n for row in codes.tolist()) for n in range(N)] for g in range(3)
    ]
    assert code_counts(codes, N).tolist() == expected


def test_memory_of_counting_does_not_grow_with_frames_times_codes():
    codes = torch.full((100_000, 1), 3)
    # A one-hot of these would have 800 GB.
    assert code_counts(codes, 10**6)[0, 3] == 100_000


def test_no_codes_count_zero():
    empty = torch.zeros(0, 2, dtype=torch.long)
    assert code_counts(empty, 3).tolist() == [[0, 0, 0], [0, 0, 0]]
