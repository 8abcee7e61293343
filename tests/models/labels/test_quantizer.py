"""Quantizer: codes and distances against loops, float32, frozen, seeded, lean."""

import math

import pytest
import torch
from speechbrain.nnet.quantisers import RandomProjectionQuantizer as StockQuantizer
from torch.utils._python_dispatch import TorchDispatchMode

from speechbrain_birq.models.labels.quantizer import Codebook, RandomProjectionQuantizer


def make(dim=6, groups=1, codes=9, code_dim=5, l2=False, seed=0, projection_seed=1):
    codebook = Codebook(
        num_codebooks=groups,
        num_codes=codes,
        code_dim=code_dim,
        l2_normalize=l2,
        seed=seed,
    )
    return RandomProjectionQuantizer(
        input_dim=dim, codebook=codebook, seed=projection_seed
    )


def reference_distances(quantizer, x, l2):
    """|P_g^T x - C_gn|^2 of one vector, in Python's float64 scalars."""
    projection = quantizer.projection.double().tolist()
    codes = quantizer.codebook.codes.double().tolist()
    result = []
    for matrix, book in zip(projection, codes, strict=True):
        width = len(matrix[0])
        point = [sum(x[d] * matrix[d][c] for d in range(len(x))) for c in range(width)]
        if l2:
            length = math.sqrt(sum(v * v for v in point))
            point = [v / length for v in point]
        result.append(
            [sum((point[c] - code[c]) ** 2 for c in range(width)) for code in book]
        )
    return result


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("l2", [False, True])
def test_distances_are_those_of_a_loop(groups, l2):
    quantizer = make(groups=groups, l2=l2)
    inputs = torch.randn(7, 6, generator=torch.Generator().manual_seed(3))
    expected = [reference_distances(quantizer, x, l2) for x in inputs.double().tolist()]
    torch.testing.assert_close(
        quantizer.distances(inputs).double(),
        torch.tensor(expected, dtype=torch.float64),
        rtol=1e-5,
        atol=1e-5,
    )


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("l2", [False, True])
def test_codes_are_the_nearest_of_a_loop(groups, l2):
    quantizer = make(groups=groups, l2=l2)
    inputs = torch.randn(25, 6, generator=torch.Generator().manual_seed(4))
    expected = []
    for x in inputs.double().tolist():
        rows = reference_distances(quantizer, x, l2)
        expected.append([row.index(min(row)) for row in rows])
    assert quantizer(inputs).tolist() == expected


def test_codes_equal_those_of_speechbrain_with_its_projection_and_codes():
    torch.manual_seed(0)
    stock = StockQuantizer(12, 8, 64)
    quantizer = make(dim=12, codes=64, code_dim=8, l2=True)
    quantizer.projection.copy_(stock.P.unsqueeze(0))
    quantizer.codebook.codes.copy_(stock.CB.unsqueeze(0))
    inputs = torch.randn(3, 50, 12)
    assert torch.equal(quantizer(inputs).squeeze(-1), stock(inputs))


def test_leading_axes_are_kept():
    quantizer = make(groups=3)
    inputs = torch.randn(2, 4, 6)
    each = torch.stack([quantizer(row) for row in inputs])
    assert quantizer(inputs).shape == (2, 4, 3)
    assert torch.equal(quantizer(inputs), each)


def test_no_frames_give_no_codes():
    assert make(groups=4)(torch.zeros(0, 6)).shape == (0, 4)


def test_a_single_code_labels_everything_zero():
    assert make(codes=1)(torch.randn(5, 6)).eq(0).all()


def test_the_zero_vector_has_finite_distances_with_unit_norms():
    distances = make(l2=True).distances(torch.zeros(2, 6))
    torch.testing.assert_close(distances, torch.ones_like(distances))


def test_a_code_itself_has_distance_zero_and_never_less():
    quantizer = make(dim=5, code_dim=5, codes=200)
    quantizer.projection.copy_(torch.eye(5).unsqueeze(0))
    own = quantizer.distances(quantizer.codebook.codes[0])[:, 0].diagonal()
    assert own.min() >= 0
    assert own.max() < 1e-5


def test_autocast_changes_no_label():
    quantizer = make(dim=80, codes=256, code_dim=16)
    inputs = torch.randn(2000, 80, generator=torch.Generator().manual_seed(5))
    plain = quantizer(inputs)
    with torch.autocast("cpu", torch.bfloat16):
        cast = quantizer(inputs)
    assert torch.equal(plain, cast)


def test_quantizing_in_bfloat16_would_change_labels():
    """The power of the test above: SpeechBrain's quantizer does flip labels."""
    torch.manual_seed(0)
    stock = StockQuantizer(80, 16, 256)
    inputs = torch.randn(1, 2000, 80)
    plain = stock(inputs)
    with torch.autocast("cpu", torch.bfloat16):
        cast = stock(inputs)
    assert (plain != cast).any()


def test_distances_are_float32_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        assert make().distances(torch.randn(3, 6)).dtype == torch.float32


def test_bfloat16_inputs_are_quantized_in_float32():
    quantizer, inputs = make(), torch.randn(20, 6).bfloat16()
    assert torch.equal(quantizer.distances(inputs), quantizer.distances(inputs.float()))


def test_nothing_is_trainable():
    assert list(make().parameters()) == []


def test_projection_and_codes_are_in_the_state():
    assert set(make().state_dict()) == {"projection", "codebook.codes"}


def test_a_loaded_state_brings_the_labels_along():
    first, second = make(groups=2), make(groups=2, seed=8, projection_seed=9)
    inputs = torch.randn(40, 6)
    assert not torch.equal(first(inputs), second(inputs))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(inputs), second(inputs))


def test_the_same_seeds_give_the_same_codes_whatever_torch_drew_before():
    first = make(groups=2)
    torch.rand(7)
    second = make(groups=2)
    assert torch.equal(first.projection, second.projection)
    assert torch.equal(first.codebook.codes, second.codebook.codes)


def test_another_codebook_seed_gives_other_codes_and_the_same_projection():
    first, second = make(seed=0), make(seed=1)
    assert not torch.equal(first.codebook.codes, second.codebook.codes)
    assert torch.equal(first.projection, second.projection)


def test_another_projection_seed_gives_another_projection():
    assert not torch.equal(
        make(projection_seed=1).projection, make(projection_seed=2).projection
    )


def test_making_a_quantizer_leaves_the_global_random_state_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    make()
    assert torch.equal(torch.get_rng_state(), before)


def test_codebooks_of_one_quantizer_differ():
    quantizer = make(groups=4)
    for first in range(4):
        for second in range(first):
            assert not torch.equal(
                quantizer.projection[first], quantizer.projection[second]
            )
            assert not torch.equal(
                quantizer.codebook.codes[first], quantizer.codebook.codes[second]
            )


def test_codes_are_standard_normal():
    codes = Codebook(num_codes=4096, code_dim=16).codes
    assert abs(codes.mean()) < 0.02
    assert abs(codes.std() - 1) < 0.02


def test_normalized_codes_have_unit_length():
    lengths = Codebook(num_codes=50, l2_normalize=True).codes.norm(dim=-1)
    torch.testing.assert_close(lengths, torch.ones(1, 50))


def test_the_projection_is_xavier_uniform_for_each_codebook():
    projection = make(dim=300, groups=2, code_dim=100).projection
    bound = math.sqrt(6 / 400)
    assert projection.abs().max() <= bound
    for matrix in projection:
        assert abs(matrix.std() - bound / math.sqrt(3)) < 0.01 * bound


def test_two_quantizers_may_share_one_codebook():
    codebook = Codebook(num_codes=8, code_dim=4)
    first = RandomProjectionQuantizer(input_dim=3, codebook=codebook, seed=1)
    second = RandomProjectionQuantizer(input_dim=5, codebook=codebook, seed=2)
    assert first.codebook is second.codebook


def test_distances_pass_a_gradient_to_their_inputs():
    quantizer = make()
    inputs = torch.randn(4, 6, requires_grad=True)
    quantizer.distances(inputs).sum().backward()
    points = torch.einsum("td,gdc->tgc", inputs.detach(), quantizer.projection)
    by_point = 2 * (points.unsqueeze(2) - quantizer.codebook.codes).sum(2)
    expected = torch.einsum("tgc,gdc->td", by_point, quantizer.projection)
    torch.testing.assert_close(inputs.grad, expected, rtol=1e-4, atol=1e-4)


class LargestTensor(TorchDispatchMode):
    """Remembers the number of elements of the largest result of any operation."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.largest = max(self.largest, result.numel())
        return result


def test_no_tensor_is_larger_than_the_distances():
    """SpeechBrain's quantizer builds (N, T, C): 16 times as much."""
    quantizer = make(dim=8, codes=2048, code_dim=16)
    with LargestTensor() as seen:
        distances = quantizer.distances(torch.randn(300, 8))
    assert distances.shape == (300, 1, 2048)
    assert seen.largest == distances.numel()
