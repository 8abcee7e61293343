"""Fitted quantizers against computations in float64, written out with loops."""

import numpy as np
import pytest
import torch

from speechbrain_birq.models.labels.fitted_quantizer import (
    FittedQuantizer,
    principal_directions,
)
from speechbrain_birq.models.labels.k_means import centroids, nearest
from speechbrain_birq.models.labels.quantizer import Codebook, RandomProjectionQuantizer


@pytest.fixture
def frames():
    """300 correlated frames of 6 numbers."""
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(6, 6, generator=generator)
    return torch.randn(300, 6, generator=generator) @ mixing


def make_quantizer(codes="centroids", projection="pca", groups=1, **more):
    options = dict(num_codes=8, code_dim=3, l2_normalize=False)
    options |= {key: more.pop(key) for key in options if key in more}
    codebook = Codebook(num_codebooks=groups, seed=0, **options)
    return FittedQuantizer(
        input_dim=6,
        codebook=codebook,
        seed=1,
        projection=projection,
        codes=codes,
        **more,
    )


def lloyd(points, leaders, rounds, unit):
    """k-means with loops: float64 codes after so many rounds of means."""
    points = points.double().numpy()
    members = np.full(len(points), -1)
    for code, leader in enumerate(leaders):
        members[leader] = code
    codes = np.zeros((len(leaders), points.shape[1]))
    for _ in range(rounds + 1):
        for code in range(len(codes)):
            of_code = [p for p, m in zip(points, members, strict=True) if m == code]
            if of_code:
                codes[code] = sum(of_code) / len(of_code)
            if unit:
                codes[code] /= np.sqrt(sum(x * x for x in codes[code]))
        for row, point in enumerate(points):
            distances = [sum((point - code) ** 2) for code in codes]
            members[row] = int(np.argmin(distances))
    return codes


@pytest.mark.parametrize("unit", [False, True])
def test_codes_are_those_of_lloyds_rounds(frames, unit):
    quantizer = make_quantizer(rounds=3, l2_normalize=unit)
    quantizer.fit(frames)
    leaders = torch.randperm(300, generator=torch.Generator().manual_seed(1))[:8]
    expected = lloyd(quantizer.points(frames)[:, 0], leaders.tolist(), 3, unit)
    found = quantizer.codebook.codes[0].double().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_directions_are_those_of_the_singular_values(frames):
    found = principal_directions(frames, 3, whitened=False).double().numpy()
    centered = frames.double().numpy() - frames.double().numpy().mean(0)
    expected = np.linalg.svd(centered)[2][:3].T
    expected = expected * np.sign((expected * found).sum(0))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_largest_coordinate_of_a_direction_is_positive(frames):
    found = principal_directions(frames, 6, whitened=False)
    assert (found.gather(0, found.abs().argmax(0, keepdim=True)) > 0).all()


def test_whitened_frames_vary_alike_in_all_directions(frames):
    white = frames @ principal_directions(frames, 4, whitened=True)
    torch.testing.assert_close(
        white.T.cov(correction=0), torch.eye(4), atol=1e-4, rtol=0
    )


def test_a_direction_without_variance_stays_finite():
    frames = torch.randn(50, 3) * torch.tensor([1.0, 1.0, 0.0])
    assert principal_directions(frames, 3, whitened=True).isfinite().all()


def test_centroids_are_means_and_lonely_codes_stay():
    points = torch.tensor([[1.0], [3.0], [8.0], [9.0]])
    codes = torch.tensor([[5.0], [6.0], [7.0]])
    found = centroids(points, torch.tensor([2, 2, 0, -1]), codes)
    assert found.tolist() == [[8.0], [6.0], [2.0]]


def test_nearest_agrees_with_the_quantizer(frames):
    quantizer = make_quantizer()
    quantizer.fit(frames)
    found = nearest(quantizer.points(frames)[:, 0], quantizer.codebook.codes[0])
    assert torch.equal(found, quantizer(frames)[:, 0])


def test_more_rounds_bring_codes_nearer(frames):
    def error(rounds):
        quantizer = make_quantizer(rounds=rounds)
        quantizer.fit(frames)
        return quantizer.distances(frames).min(-1).values.sum()

    assert error(9) < error(0)


def test_codebooks_begin_with_other_frames(frames):
    quantizer = make_quantizer(groups=2)
    quantizer.fit(frames)
    first, second = quantizer(frames).T
    assert len(torch.unique(8 * first + second)) > 8


def test_a_second_fit_keeps_what_the_codes_stand_for(frames):
    """Frames that have moved a little carry the labels that they had."""
    quantizer = make_quantizer(rounds=30)
    quantizer.fit(frames)
    before = quantizer(frames)
    quantizer.fit(1.001 * frames)
    assert (quantizer(frames) == before).float().mean() > 0.95
    assert quantizer.num_fits == 2


def test_random_kinds_leave_the_random_quantizer():
    quantizer = make_quantizer(codes="random", projection="random")
    assert not quantizer.fittable
    plain = RandomProjectionQuantizer(
        input_dim=6, codebook=Codebook(num_codes=8, code_dim=3, seed=0), seed=1
    )
    state = quantizer.state_dict()
    assert state.keys() == plain.state_dict().keys()
    for name, value in plain.state_dict().items():
        assert torch.equal(state[name], value)


def test_random_codes_stay_while_the_projection_is_fitted(frames):
    quantizer = make_quantizer(codes="random", projection="whitened_pca")
    codes, projection = quantizer.codebook.codes.clone(), quantizer.projection.clone()
    quantizer.fit(frames)
    assert torch.equal(quantizer.codebook.codes, codes)
    assert not torch.equal(quantizer.projection, projection)


def test_a_shared_codebook_stays_as_it_is(frames):
    codebook = Codebook(num_codes=8, code_dim=3, seed=0)
    before = codebook.codes.clone()
    quantizer = FittedQuantizer(
        input_dim=6, codebook=codebook, seed=1, codes="centroids"
    )
    quantizer.fit(frames)
    assert torch.equal(codebook.codes, before)
    assert not torch.equal(quantizer.codebook.codes, before)


def test_a_checkpoint_holds_the_fit(frames):
    fitted, fresh = make_quantizer(), make_quantizer()
    fitted.fit(frames)
    fresh.load_state_dict(fitted.state_dict())
    assert torch.equal(fresh(frames), fitted(frames))
    assert fresh.num_fits == fresh.times_fitted == 1


@pytest.mark.parametrize("wrong", [dict(codes="kmeans"), dict(projection="lda")])
def test_an_unknown_kind_is_named(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong.values()))}.*is none of"):
        make_quantizer(**wrong)


@pytest.mark.parametrize("rounds", [2.5, -1, "3", True])
def test_rounds_are_a_whole_number_from_0(rounds):
    with pytest.raises(ValueError, match=f"whole number from 0, got {rounds!r}"):
        make_quantizer(rounds=rounds)


def test_more_directions_than_there_are_is_refused():
    with pytest.raises(ValueError, match="6 directions at most, code_dim is 7"):
        make_quantizer(code_dim=7)


def test_too_few_frames_are_refused(frames):
    with pytest.raises(ValueError, match="7 frames cannot fit 8 codes"):
        make_quantizer().fit(frames[:7])
