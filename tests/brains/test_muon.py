"""Muon: its update by float64 loops, its two parts, its state."""

import copy
import math

import pytest
import torch
from small_brains import UNEQUAL, batch_of, feed, muon

from speechbrain_birq.brains import Muon
from speechbrain_birq.brains.muon import hidden_matrices, orthogonalized

RATE, DECAY, MOMENTUM = 0.1, 0.3, 0.9


class Layers(torch.nn.Module):
    """Matrices that are tall, wide, square and a 1x1 convolution; and other weights."""

    def __init__(self):
        super().__init__()
        self.wide, self.tall = torch.nn.Linear(5, 3), torch.nn.Linear(3, 5)
        self.square = torch.nn.Linear(3, 3, bias=False)
        self.pointwise = torch.nn.Conv1d(5, 3, 1)
        self.depthwise = torch.nn.Conv1d(4, 4, 3, groups=4)
        self.lookup = torch.nn.Embedding(7, 3)


@pytest.fixture
def layers():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return Layers()


def give_gradients(module, number):
    """Set gradients that depend on a number only."""
    generator = torch.Generator().manual_seed(number)
    for weight in module.parameters():
        weight.grad = torch.randn(weight.shape, generator=generator).to(weight)


def product(left, right):
    """Multiply lists of rows."""
    columns = [*zip(*right, strict=True)]
    return [
        [
            math.fsum(a * b for a, b in zip(row, column, strict=True))
            for column in columns
        ]
        for row in left
    ]


def combined(*pairs):
    """Add (factor, list of rows)."""
    _, (first, *_) = pairs[0]
    return [
        [math.fsum(f * m[i][j] for f, m in pairs) for j in range(len(first))]
        for i in range(len(pairs[0][1]))
    ]


def newton_schulz(matrix):
    """X ← 3.4445 X − 4.775 (X Xᵀ) X + 2.0315 (X Xᵀ)² X, five times."""
    norm = math.sqrt(math.fsum(x * x for row in matrix for x in row))
    states = combined((1 / norm, matrix))
    for _ in range(5):
        gram = product(states, [*zip(*states, strict=True)])
        once = product(gram, states)
        twice = product(gram, once)
        states = combined((3.4445, states), (-4.775, once), (2.0315, twice))
    return states


def test_matrices_move_as_float64_loops_say(layers):
    optimizer = Muon(
        layers.parameters(),
        hidden=layers,
        lr=RATE,
        weight_decay=DECAY,
        momentum=MOMENTUM,
    )
    names = ("wide", "tall", "square", "pointwise")
    expected = {n: getattr(layers, n).weight.flatten(1).tolist() for n in names}
    momenta = {n: combined((0.0, matrix)) for n, matrix in expected.items()}
    for number in range(3):
        give_gradients(layers, number)
        for name, matrix in expected.items():
            gradient = getattr(layers, name).weight.grad.flatten(1).tolist()
            momenta[name] = combined((0.9, momenta[name]), (0.1, gradient))
            update = newton_schulz(combined((0.9, momenta[name]), (0.1, gradient)))
            size = 0.2 * math.sqrt(max(len(matrix), len(matrix[0])))
            expected[name] = combined((1 - 0.1 * 0.3, matrix), (-size * 0.1, update))
        optimizer.step()
    for name, matrix in expected.items():
        found = getattr(layers, name).weight.detach().flatten(1)
        torch.testing.assert_close(found.tolist(), matrix, atol=1e-5, rtol=0)


def test_the_other_parameters_move_as_adamw_moves_them(layers):
    plain = copy.deepcopy(layers)
    settings = dict(lr=RATE, weight_decay=DECAY, betas=(0.8, 0.9), eps=0.1)
    ours = Muon(layers.parameters(), hidden=layers, **settings)
    others = [*plain.depthwise.parameters(), *plain.lookup.parameters()]
    adamw = torch.optim.AdamW([*others, plain.wide.bias], **settings)
    for number in range(2):
        for module, optimizer in ((layers, ours), (plain, adamw)):
            give_gradients(module, number)
            optimizer.step()
    for name in ("depthwise.weight", "depthwise.bias", "lookup.weight", "wide.bias"):
        assert torch.equal(layers.get_parameter(name), plain.get_parameter(name)), name


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch below 2.9")
def test_a_step_is_that_of_torchs_muon_up_to_bfloat16(layers):
    plain = copy.deepcopy(layers)
    ours = Muon(layers.parameters(), hidden=layers, lr=RATE, weight_decay=DECAY)
    weights = [plain.wide.weight, plain.tall.weight]
    theirs = torch.optim.Muon(
        weights, lr=RATE, weight_decay=DECAY, adjust_lr_fn="match_rms_adamw"
    )
    for number in range(2):
        for module, optimizer in ((layers, ours), (plain, theirs)):
            give_gradients(module, number)
            optimizer.step()
    for name in ("wide", "tall"):
        pair = (getattr(module, name).weight for module in (layers, plain))
        torch.testing.assert_close(*pair, atol=2e-3, rtol=0)


def test_a_matrix_of_zeros_stays_finite():
    assert torch.equal(orthogonalized(torch.zeros(2, 3, 4)), torch.zeros(2, 3, 4))


ENCODERS = [
    ("conformer", "RoPEMHA", 8),
    ("conformer", "RelPosMHAXL", 9),
    ("branchformer", "RoPEMHA", 5),
    ("e_branchformer", "RoPEMHA", 9),
    ("transformer", "regularMHA", 4),
    ("block_conformer", "ShawMHA", 9),
]


@pytest.mark.parametrize(("kind", "attention", "count"), ENCODERS)
def test_the_hidden_matrices_of_an_encoders_layer(make_encoder, kind, attention, count):
    encoder = make_encoder(kind, num_layers=1, attention_type=attention)
    found = {id(weight) for weight in hidden_matrices(encoder.layers)}
    names = {n for n, weight in encoder.named_parameters() if id(weight) in found}
    assert len(names) == count, names
    assert not [n for n in names if "norm" in n or "bias" in n or "distances" in n]
    assert "input.linear.weight" not in names


def test_without_a_matrix_adamw_moves_all_and_a_warning_says_so(layers, caplog):
    optimizer = Muon(layers.parameters(), hidden=layers.lookup)
    assert [group["is_hidden"] for group in optimizer.param_groups] == [False]
    assert "no parameter is a matrix of Embedding" in caplog.text


def test_matrices_of_another_module_are_warned_of(layers, caplog):
    Muon(layers.parameters(), hidden=copy.deepcopy(layers))
    assert "no parameter is a matrix of Layers" in caplog.text


def test_named_parameters_are_parameters(layers):
    named, plain = (
        Muon(params, hidden=layers).param_groups
        for params in (layers.named_parameters(), layers.parameters())
    )
    sizes = [[len(g["params"]) for g in groups] for groups in (named, plain)]
    assert sizes[0] == sizes[1] and len(sizes[0]) == 2


@pytest.mark.parametrize(
    "options, words",
    [
        (
            dict(momentum=1.0),
            "momentum of Muon must be a number from 0, below 1",
        ),
        (dict(momentum=-0.1), "momentum of Muon must be"),
        (dict(momentum="0.9"), "momentum of Muon must be .*, got '0.9'"),
        (dict(matrix_factor=0.0), "matrix_factor of Muon must be a number above 0"),
        (dict(matrix_factor=math.inf), "matrix_factor of Muon must be"),
        (dict(lr=-1.0), "lr of Muon must be a number from 0, got -1.0"),
        (dict(lr="0.01"), "lr of Muon must be"),
        (dict(weight_decay="no"), "weight_decay of Muon must be"),
        (dict(betas=(0.9, 2.0)), "Invalid beta"),
    ],
)
def test_values_that_cannot_train_are_refused(layers, options, words):
    with pytest.raises(ValueError, match=words):
        Muon(layers.parameters(), hidden=layers, **options)


def test_a_copy_goes_on(layers):
    """torch's copy and pickle of an optimizer hold nothing but its groups and state."""
    optimizer = Muon(layers.parameters(), hidden=layers, fused=True)
    give_gradients(layers, 1)
    optimizer.step()
    copied_layers, copied = copy.deepcopy((layers, optimizer))
    for module, one in ((layers, optimizer), (copied_layers, copied)):
        give_gradients(module, 2)
        one.step()
    for name, weight in layers.named_parameters():
        assert torch.equal(weight, copied_layers.get_parameter(name)), name


def test_a_group_that_is_added_later_belongs_to_adamw(layers):
    optimizer = Muon([*layers.wide.parameters()], hidden=layers, lr=0.1)
    optimizer.add_param_group({"params": [layers.square.weight]})
    before = layers.square.weight.detach().clone()
    give_gradients(layers, 1)
    optimizer.step()
    assert optimizer.param_groups[-1]["is_hidden"] is False
    # AdamW's first step is as large as its rate, beside the decay.
    moved = (layers.square.weight - before * (1 - 0.1 * 0.01)).abs()
    torch.testing.assert_close(moved, torch.full_like(moved, 0.1), atol=1e-4, rtol=0)


def test_of_a_module_with_layers_only_these_are_taken(layers):
    layers.layers = torch.nn.ModuleList([layers.wide])
    optimizer = Muon(layers.parameters(), hidden=layers)
    (hidden,) = [group for group in optimizer.param_groups if group["is_hidden"]]
    assert [id(weight) for weight in hidden["params"]] == [id(layers.wide.weight)]


def test_layers_that_are_a_number_are_no_modules(layers):
    expected = Muon(layers.parameters(), hidden=layers).param_groups[1]["params"]
    layers.layers = 4  # as one's own encoder may call their number
    (hidden,) = [
        group
        for group in Muon(layers.parameters(), hidden=layers).param_groups
        if group["is_hidden"]
    ]
    assert list(map(id, hidden["params"])) == list(map(id, expected))


def test_the_schedule_scales_both_rates_alike(make_brain):
    brain = make_brain(
        opt_class=lambda p: muon(p, lr=0.1, matrix_factor=3),
        lr_schedule=lambda step, epochs: 0.5,
    )
    feed(brain, batch_of(*UNEQUAL))
    rates = [(g["is_hidden"], g["lr"]) for g in brain.optimizer.param_groups]
    assert rates == [(False, pytest.approx(0.05)), (True, pytest.approx(0.15))]
    (row,) = brain.hparams.run_log.stage("train")
    assert row["lr"] == pytest.approx(0.05)


def test_a_group_keeps_its_own_rate_and_weight_decay(layers):
    groups = [
        {"params": [*layers.wide.parameters()], "lr": 0.5},
        {"params": [layers.tall.weight], "weight_decay": 0.7},
    ]
    optimizer = Muon(groups, hidden=layers, lr=0.1, weight_decay=0.2)
    found = [
        tuple(group[key] for key in ("is_hidden", "lr", "weight_decay"))
        for group in optimizer.param_groups
    ]
    assert found == [(False, 0.5, 0.2), (True, 0.5, 0.2), (True, 0.1, 0.7)]


@pytest.mark.parametrize("fused", [False, True])
def test_a_restored_state_continues_bit_for_bit(layers, tmp_path, fused):
    straight = Muon(layers.parameters(), hidden=layers, fused=fused)
    give_gradients(layers, 1)
    straight.step()
    copied = copy.deepcopy(layers)
    torch.save(straight.state_dict(), tmp_path / "optimizer.ckpt")
    resumed = Muon(copied.parameters(), hidden=copied, fused=fused)
    resumed.load_state_dict(torch.load(tmp_path / "optimizer.ckpt", weights_only=True))
    for module, optimizer in ((layers, straight), (copied, resumed)):
        for number in (2, 3):
            give_gradients(module, number)
            optimizer.step()
    for name, weight in layers.named_parameters():
        assert torch.equal(weight, copied.get_parameter(name)), name


def test_a_frozen_matrix_does_not_move(layers):
    optimizer = Muon(layers.parameters(), hidden=layers, weight_decay=DECAY)
    give_gradients(layers, 1)
    layers.wide.weight.grad = None
    before = layers.wide.weight.clone()
    optimizer.step()
    assert torch.equal(layers.wide.weight, before)


def test_a_scaled_gradient_is_unscaled_in_both_parts(layers):
    """GradScaler leaves the division to the optimizer if nobody called unscale_."""
    plain = copy.deepcopy(layers)
    # The scale changes in every step: a constant one would cancel in the direction.
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=1)
    pairs = [
        (module, Muon(module.parameters(), hidden=module, lr=RATE, fused=True))
        for module in (layers, plain)
    ]
    for number in range(3):
        for module, optimizer in pairs:
            give_gradients(module, number)
            if module is plain:
                optimizer.step()
                continue
            scaler.scale(torch.ones(()))
            for weight in module.parameters():
                weight.grad *= scaler.get_scale()
            scaler.step(optimizer)
            scaler.update()
    for name, weight in layers.named_parameters():
        torch.testing.assert_close(
            weight, plain.get_parameter(name), atol=1e-5, rtol=0, msg=name
        )


def test_a_closure_computes_the_loss(layers):
    optimizer = Muon(layers.parameters(), hidden=layers)

    def closure():
        loss = layers.wide(torch.ones(1, 5)).sum()
        loss.backward()
        return loss.detach()

    before = layers.wide.weight.clone()
    assert optimizer.step(closure).isfinite()
    assert not torch.equal(layers.wide.weight, before)


def test_a_brain_learns_with_it(make_brain):
    brain = make_brain(opt_class=lambda p: muon(p, lr=0.01, fused=True))
    losses = [loss.item() for loss in feed(brain, *[batch_of(*UNEQUAL)] * 8)]
    assert losses[-1] < losses[0] - 0.2
