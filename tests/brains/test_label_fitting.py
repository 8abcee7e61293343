"""When quantizers are fitted, to which frames, and that a resumed run agrees."""

import copy

import pytest
import torch
from small_brains import no_speech
from small_runs import assert_equal, log, pretrain, weights

from speechbrain_birq.brains.label_fitting import (
    LabelFitting,
    batches,
    first,
    quantizer_inputs,
)
from speechbrain_birq.errors import BadInput
from speechbrain_birq.models.labels.fitted_quantizer import FittedQuantizer
from speechbrain_birq.models.labels.quantizer import Codebook

PLUS = "birq_plus_tiny.yaml"
FITTED = dict(
    anchor_projection="pca",
    anchor_codes="centroids",
    enhanced_projection="whitened_pca",
    enhanced_codes="centroids",
    fit_seconds=8,
    refit_steps=2,
)


@pytest.fixture
def model(make_model):
    """A BiRQ whose quantizers are to be fitted; its anchors have 8 codes."""
    model = make_model(label_norm="channel", dropout=0.1)
    for kind, dim in (("anchor", 40), ("enhanced", 16)):
        codebook = Codebook(num_codes=8, code_dim=4, seed=0)
        quantizer = FittedQuantizer(
            input_dim=dim, codebook=codebook, seed=1, codes="centroids"
        )
        setattr(model, f"{kind}_quantizer", quantizer)
    return model


@pytest.fixture
def signals():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(n, generator=generator) for n in (9000, 16000, 300, 12000)]


def fitting(signals, **settings):
    settings = dict(seconds=60, batch_seconds=2) | settings
    fit = LabelFitting(**settings)
    return lambda model, step, **more: fit(model, step, lambda: iter(signals), **more)


def fits(model):
    return [model.anchor_quantizer.num_fits, model.enhanced_quantizer.num_fits]


@pytest.mark.parametrize(
    "refit_steps, expected", [(0, [1, 1]), (10, [1, 3]), (7, [1, 4])]
)
def test_the_enhanced_codes_are_fitted_again_and_again(
    refit_steps, expected, model, signals
):
    fit = fitting(signals, refit_steps=refit_steps)
    for step in range(28):
        fit(model, step)
    assert fits(model) == expected


def test_without_enhanced_labels_the_anchors_alone_are_fitted(model, signals):
    fit = fitting(signals, refit_steps=2)
    for step in range(5):
        fit(model, step, enhanced=False)
    assert fits(model) == [1, 0]
    assert model.label_norm.num_batches == 0


def test_best_rq_fits_no_enhanced_codes_and_birq_that_starts_from_it_does(
    corpus, tmp_path
):
    best_rq, birq = tmp_path / "best_rq", tmp_path / "birq"
    pretrain(corpus, best_rq, PLUS, **FITTED, enhanced_weight_value=0)
    assert "fitted the enhanced" not in log(best_rq)
    pretrain(corpus, birq, PLUS, **FITTED, pretrained=best_rq)
    assert log(birq).index("fitted the enhanced") < log(birq).index("step 1")
    assert "fitted the anchor" not in log(birq)


@pytest.mark.parametrize(
    "name, value", [("seconds", "abc"), ("batch_seconds", 0), ("refit_steps", 2.5)]
)
def test_an_argument_of_another_kind_is_named(name, value):
    with pytest.raises(ValueError, match=f"^{name} of LabelFitting .* got {value!r}"):
        LabelFitting(**{"seconds": 1, "batch_seconds": 1, name: value})


def test_silence_is_fitted_by_nothing(model):
    model.anchor_quantizer.kinds = ("whitened_pca", "centroids")
    with pytest.raises(BadInput, match="the anchor labels: the frames do not differ"):
        fitting([torch.zeros(16000)])(model, 0)


def test_a_model_with_nothing_to_fit_reads_no_speech(make_model):
    random = make_model()
    for kind, dim in (("anchor", 40), ("enhanced", 16)):
        codebook = Codebook(num_codes=8, code_dim=4)
        quantizer = FittedQuantizer(input_dim=dim, codebook=codebook, seed=1)
        setattr(random, f"{kind}_quantizer", quantizer)
    LabelFitting(seconds=60, batch_seconds=2)(random, 0, no_speech)


def test_anchors_are_fitted_to_the_frames_that_training_sees(model, signals):
    fitting(signals)(model, 0)
    spoken = [signal for signal in signals if len(signal) >= 320]
    frames = torch.cat(
        [model.frontend(s.unsqueeze(0), torch.ones(1)).frames[0] for s in spoken]
    )
    alone = FittedQuantizer(
        input_dim=40,
        codebook=Codebook(num_codes=8, code_dim=4, seed=0),
        seed=1,
        codes="centroids",
    )
    alone.fit(frames)
    torch.testing.assert_close(
        model.anchor_quantizer.codebook.codes, alone.codebook.codes, atol=1e-4, rtol=0
    )


def test_inputs_are_those_of_the_label_pass(model):
    """Layer k's output as ``select_labels`` quantizes it, batch statistics included."""
    model.encoder.set_dropout(0.0)
    wavs, wav_lens = torch.randn(2, 8000), torch.tensor([1.0, 0.5])
    found = quantizer_inputs(model, ("anchor", "enhanced"), wavs, wav_lens)
    clean = model.frontend(wavs, wav_lens)
    states = model.label_states(clean)
    assert torch.equal(found["enhanced"], states[clean.valid])
    assert len(found["anchor"]) == clean.lengths.sum() == 25 + 13


def test_fitting_uses_up_no_random_number(model, signals):
    before = torch.get_rng_state()
    fitting(signals)(model, 0)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kinds", [("anchor",), ("anchor", "enhanced")])
def test_only_what_is_asked_for_is_computed(kinds, model):
    found = quantizer_inputs(model, kinds, torch.randn(2, 8000), torch.ones(2))
    assert tuple(found) == kinds


def test_fitting_leaves_the_encoder_as_it_was(make_model, signals):
    """Batch normalization has running statistics."""
    model = make_model(kind="block_conformer")
    codebook = Codebook(num_codes=8, code_dim=4, seed=0)
    model.enhanced_quantizer = FittedQuantizer(
        input_dim=16, codebook=codebook, seed=1, codes="centroids"
    )
    before = copy.deepcopy(model.encoder.state_dict())
    fitting(signals)(model, 0)
    assert model.enhanced_quantizer.num_fits == 1
    torch.testing.assert_close(model.encoder.state_dict(), before, atol=0, rtol=0)


def test_too_little_speech_is_one_sentence(corpus, tmp_path, fails):
    few = FITTED | dict(fit_seconds=1, num_codes=512)
    words = ("anchor labels", "frames cannot fit 512 codes", "raise fit_seconds")
    fails(lambda: pretrain(corpus, tmp_path / "run", PLUS, **few), *words)


def test_a_resumed_run_fits_when_the_uninterrupted_one_did(corpus, tmp_path):
    def fitted(run, epochs):
        more = FITTED | dict(optimizer_step_limit=None, number_of_epochs=epochs)
        pretrain(corpus, tmp_path / run, PLUS, **more)
        return weights(tmp_path / run)

    straight, before = fitted("straight", 2), fitted("resumed", 1)
    fits = "enhanced_quantizer.num_fits"
    assert straight[fits] > before[fits] > 1
    assert_equal(straight, fitted("resumed", 2))


def test_the_log_tells_of_the_fits(corpus, tmp_path):
    pretrain(corpus, tmp_path / "run", PLUS, **FITTED)
    assert log(tmp_path / "run").count("fitted the anchor quantizer to") == 1
    assert log(tmp_path / "run").count("fitted the enhanced quantizer to") == 2


def test_batches_hold_no_more_than_they_may():
    signals = [torch.ones(n) for n in (5, 5, 5, 20, 1)]
    sizes = [len(wavs) for wavs, _ in batches(signals, 10)]
    assert sizes == [2, 1, 1, 1]


def test_no_more_is_read_than_is_needed():
    signals = iter([torch.ones(4)] * 5)
    list(first(signals, 8))
    assert len(list(signals)) == 3
