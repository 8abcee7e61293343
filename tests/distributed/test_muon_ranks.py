"""Muon on two gloo ranks: each orthogonalizes a share, all move as one process does."""

import copy

import pytest
import torch
import torch.distributed as dist
from gloo_ranks import on_two_ranks
from small_brains import muon

from speechbrain_birq.brains import muon as module

STEPS = 3
FOUND = "{}.pt"


def layers():
    """Return three matrices of one shape, one of another, and vectors."""
    generator = torch.Generator().manual_seed(3)
    made = torch.nn.Sequential(
        *(torch.nn.Linear(8, 6) for _ in range(3)), torch.nn.Linear(6, 6)
    )
    for weight in made.parameters():
        weight.data = torch.randn(weight.shape, generator=generator)
    return made


def trained(made):
    """Make steps on given gradients; return the weights and the momenta."""
    optimizer = muon(made.parameters(), lr=0.1, weight_decay=0.1, fused=True)
    generator = torch.Generator().manual_seed(4)
    for _ in range(STEPS):
        for weight in made.parameters():
            weight.grad = torch.randn(weight.shape, generator=generator)
        optimizer.step()
    return made.state_dict(), optimizer.state_dict()["state"]


def work(rank, folder, made):
    """Train on one of two ranks; count the matrices that it orthogonalizes."""
    torch.set_num_threads(1)
    where = f"file://{folder}/rendezvous"
    dist.init_process_group("gloo", init_method=where, rank=rank, world_size=2)
    counts, orthogonalized = [], module.orthogonalized

    def counting(matrices):
        counts.append(len(matrices))
        return orthogonalized(matrices)

    module.orthogonalized = counting
    torch.save((trained(copy.deepcopy(made)), counts), folder / FOUND.format(rank))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("muon")
    on_two_ranks(work, folder, layers())
    return [torch.load(folder / FOUND.format(rank)) for rank in (0, 1)]


def test_two_ranks_move_as_one_process_does(found):
    weights, states = trained(layers())
    for (theirs, their_states), _ in found:
        for name, value in weights.items():
            torch.testing.assert_close(theirs[name], value, atol=1e-6, rtol=0)
        for number, state in states.items():
            for name, value in state.items():
                torch.testing.assert_close(their_states[number][name], value)


def test_all_ranks_have_the_same_bits(found):
    (first, _), (second, _) = (one for one, _ in found)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_each_rank_orthogonalizes_its_share_only(found):
    # Two of the three matrices of a shape, the second rank's other is a filler of
    # zeros; one of the single one.
    assert [counts for _, counts in found] == [[2, 1] * STEPS] * 2
