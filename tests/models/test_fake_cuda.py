"""Every form of the models on a GPU that is not there: devices, waits, copies.

Tensors of ``FakeTensorMode`` have shapes, types and devices, but no values. Whatever
mixes devices fails, and so does whatever needs a value on the CPU, which on a GPU waits
for all work so far. Backward passes do not run: they ask for a real device.
"""

import sys
from contextlib import contextmanager, nullcontext

import pytest
import torch
from speechbrain.nnet.attention import _get_precomputed_values
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from speechbrain_birq.brains.label_fitting import LabelFitting
from speechbrain_birq.models.ctc import CTCModel
from speechbrain_birq.models.encoders.chunking import make_chunk
from speechbrain_birq.models.encoders.inputs import ConvolutionalInput
from speechbrain_birq.models.encoders.layers import ATTENTION
from speechbrain_birq.models.frontend import FrontEnd
from speechbrain_birq.models.labels.fitted_quantizer import FittedQuantizer
from speechbrain_birq.models.labels.label_terms import (
    Reconstruction,
    UsageEntropy,
)
from speechbrain_birq.models.labels.quantizer import Codebook
from speechbrain_birq.models.probe import ProbeModel

MASKED, FRAMES = 17, 50


class NoCopies(TorchDispatchMode):
    """Refuses operations that carry a tensor from one device to another."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        sources, results = (
            {t.device.type for t in tree_leaves(values) if isinstance(t, torch.Tensor)}
            for values in ((args, kwargs), result)
        )
        assert len(sources | results) <= 1, f"{function} copies between devices"
        return result


@pytest.fixture
def gpu(monkeypatch):
    """with gpu(module): the module is on a fake GPU, under bfloat16 autocast."""
    monkeypatch.setattr(
        "torch.cuda.amp.common.amp_definitely_not_available", lambda: False
    )
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda *args: True)

    @contextmanager
    def enter(module, copies=False):
        _get_precomputed_values.memo.clear()
        watch = nullcontext() if copies else NoCopies()
        with FakeTensorMode(), torch.autocast("cuda", torch.bfloat16), watch:
            move(module)
            yield
        _get_precomputed_values.memo.clear()

    return enter


def move(module):
    """``module.cuda()``, which needs a GPU."""
    for part in module.modules():
        for store in (part._parameters, part._buffers):
            for name, tensor in store.items():
                if tensor is None:
                    continue
                fake = on_gpu(*tensor.shape, dtype=tensor.dtype)
                if store is part._parameters:
                    fake = torch.nn.Parameter(fake, tensor.requires_grad)
                store[name] = fake


def on_gpu(*shape, dtype=torch.float32):
    return torch.empty(shape, dtype=dtype, device="cuda")


def batch():
    """Waveforms, relative lengths and a mask."""
    mask = on_gpu(2, FRAMES, dtype=torch.bool)
    return on_gpu(2, 16000), on_gpu(2), mask


def assert_on_gpu(result):
    assert {tensor.device.type for tensor in tree_leaves(result)} == {"cuda"}


def global_frontend():
    frontend = FrontEnd(n_mels=20, stack=2, normalize="global")
    frontend.estimate([torch.randn(8000)], seconds=1)
    assert frontend.statistics.estimated  # asked once, on the CPU
    return frontend


FORMS = {
    "paper": {},
    "channel": dict(gradient=False, label_norm="channel", shared_head=False),
    "shipped": dict(
        gradient=False,
        noise=False,
        temperature=0.05,
        label_norm="channel",
        num_codebooks=4,
        l2_normalize=True,
        shared_head=False,
    ),
    "codebooks": dict(num_codebooks=4, l2_normalize=True, noise=False),
    "chunks of logits": dict(chunk=4),
}


def test_label_terms(make_model, gpu):
    sizes = dict(num_codebooks=1, num_codes=16)
    terms = [
        UsageEntropy(weight=1.0, **sizes),
        Reconstruction(weight=1.0, output_dim=40, **sizes),
    ]
    model = make_model(label_terms=terms, label_norm="utterance")
    with gpu(model):
        assert_on_gpu(model(*batch(), num_masked=MASKED))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("enhanced", [True, False])
def test_pretraining(make_model, gpu, form, enhanced):
    model = make_model(**FORMS[form])
    with gpu(model):
        objective = model(*batch(), enhanced, num_masked=MASKED)
        assert_on_gpu(objective)
        assert objective.anchor_codes.shape[0] == MASKED


def test_stored_labels(make_model, gpu):
    model = make_model(num_codebooks=2)
    with gpu(model):
        targets = on_gpu(2, FRAMES, 2, dtype=torch.int64)
        assert_on_gpu(model(*batch(), True, targets, num_masked=MASKED))


@torch.no_grad()
def test_validation_and_relabeling(make_model, gpu):
    model = make_model(label_norm="channel").eval()
    with gpu(model):
        assert_on_gpu(model(*batch(), num_masked=MASKED))
        assert_on_gpu(model.labels(*batch()[:2]))


def test_pretraining_in_chunks(make_model, gpu):
    model = make_model()
    model.frontend = global_frontend()
    model.chunking = lambda: make_chunk(8, 2)  # drawn on the CPU otherwise
    with gpu(model):
        assert_on_gpu(model(*batch(), num_masked=MASKED))


@pytest.mark.parametrize("l2_normalize", [True, False])
@pytest.mark.parametrize("projection", ["random", "pca", "whitened_pca"])
def test_fitted_labels(make_model, gpu, projection, l2_normalize):
    model = make_model()
    codebook = Codebook(num_codes=16, code_dim=8, l2_normalize=l2_normalize)
    kinds = dict(projection=projection, codes="centroids")
    fitted = FittedQuantizer(input_dim=40, codebook=codebook, seed=1, **kinds)
    model.anchor_quantizer = fitted
    with gpu(model, copies=True):  # drawn on the CPU, the first centroids are copied
        for fitted.times_fitted in (0, 1):  # the first fit has no codes to start from
            fitted.fit(on_gpu(100, 40))
            assert_on_gpu([fitted.projection, fitted.codebook.codes])
    with gpu(model):
        assert_on_gpu(model(*batch(), False, num_masked=MASKED))


def test_codes_are_sent_to_other_ranks_from_the_cpu(make_model, gpu, monkeypatch):
    model, sent = make_model(), []
    codebook = Codebook(num_codes=16, code_dim=8)
    fitted = FittedQuantizer(input_dim=40, codebook=codebook, seed=1, codes="centroids")
    model.anchor_quantizer = fitted
    fitting = LabelFitting(seconds=1, batch_seconds=1)
    # These three wait for the device, and so do not run on a GPU that is not there.
    monkeypatch.setattr(fitting, "_due", lambda *_: {"anchor": "anchor_quantizer"})
    monkeypatch.setattr(fitting, "_fit", lambda *_: None)
    monkeypatch.setattr(fitted, "load_state_dict", lambda _: None)
    module = sys.modules[LabelFitting.__module__]
    monkeypatch.setattr(module, "ddp_broadcast", lambda s: sent.append(s) or s)
    with gpu(model, copies=True):
        fitting(model, 0, list, enhanced=False)
    assert {value.device.type for state in sent for value in state.values()} == {"cpu"}


ENCODERS = [
    *(dict(kind=k, attention_type=a) for k, names in ATTENTION.items() for a in names),
    dict(attention_window=6),
    dict(kind="block_conformer", attention_window=6),
    dict(activation_checkpointing=True),
]


@pytest.mark.parametrize(
    "options", ENCODERS, ids=lambda o: "-".join(map(str, o.values()))
)
def test_encoders(make_encoder, gpu, options):
    encoder = make_encoder(**options).train()
    with gpu(encoder):
        inputs = on_gpu(2, FRAMES, 40), on_gpu(2, dtype=torch.int64)
        assert_on_gpu(encoder(*inputs))
        assert_on_gpu(encoder.hidden_states(*inputs))


def test_the_convolutional_input(make_encoder, gpu):
    conv = ConvolutionalInput(input_dim=160, d_model=16, channels=(8, 4))
    encoder = make_encoder(input_dim=160, input_module=conv)
    with gpu(encoder):
        assert_on_gpu(encoder(on_gpu(2, FRAMES, 160), on_gpu(2, dtype=torch.int64)))


@pytest.mark.parametrize("model_class", [CTCModel, ProbeModel])
@pytest.mark.parametrize("chunk", [None, make_chunk(8, 2)], ids=["whole", "chunks"])
def test_recognition(make_encoder, gpu, model_class, chunk):
    model = model_class(
        frontend=global_frontend(), encoder=make_encoder(), num_tokens=7, dropout=0.1
    )
    with gpu(model):
        assert_on_gpu(model.train()(*batch()[:2], chunk=chunk))
        with torch.no_grad():
            assert_on_gpu(model.eval()(*batch()[:2], chunk=chunk))


@pytest.mark.parametrize("attention", ["RoPEMHA", "RelPosMHAXL"])
@torch.no_grad()
def test_streaming(make_encoder, gpu, attention):
    encoder = make_encoder(attention_type=attention)
    contexts = encoder.streaming_contexts(make_chunk(8, 2))
    with gpu(encoder):
        for _ in range(3):
            assert_on_gpu(encoder.forward_streaming(on_gpu(1, 8, 40), contexts))


# The power of these tests.


def test_counting_the_masked_frames_is_found(make_model, gpu):
    model = make_model()
    with gpu(model), pytest.raises(DynamicOutputShapeException):
        model(*batch())


def test_a_value_that_is_needed_on_the_cpu_is_found(make_model, gpu):
    model = make_model()
    model.selector.register_forward_hook(lambda *args: args[-1].sum().item())
    with gpu(model), pytest.raises(DataDependentOutputException):
        model(*batch(), num_masked=MASKED)


def test_a_mixture_of_devices_is_found(make_model, gpu):
    model = make_model()
    with gpu(model):
        model.heads.anchor.bias = torch.nn.Parameter(torch.empty(16))
        with pytest.raises((AssertionError, RuntimeError), match="device"):
            model(*batch(), num_masked=MASKED)


def test_a_copy_from_the_cpu_in_every_step_is_found(make_model, gpu):
    """SpeechBrain's own window, which is no buffer."""
    model = make_model()
    with gpu(model):
        del model.frontend.fbank.compute_STFT.window
        model.frontend.fbank.compute_STFT.window = torch.empty(400)
        with pytest.raises(AssertionError, match="copies between devices"):
            model(*batch(), num_masked=MASKED)
