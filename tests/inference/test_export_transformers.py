"""An exported run in transformers' own classes: equal to our encoder to 1e-5.

Slow ones, because to import transformers takes seconds.
"""

import json
import shutil
import subprocess
import sys

import pytest
import torch
from small_runs import ROOT

from speechbrain_birq.inference import (
    PretrainedEncoder,
    Recogniser,
    SpeechEncoder,
    export_run,
)

transformers = pytest.importorskip("transformers")
from transformers import (  # noqa: E402
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForCTC,
    AutoProcessor,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture(autouse=True)
def _own_modules(tmp_path, monkeypatch):
    """transformers copies the code of a model into a cache, and imports it there."""
    cache = tmp_path / "modules"
    monkeypatch.setattr(
        transformers.dynamic_module_utils, "HF_MODULES_CACHE", str(cache)
    )
    monkeypatch.syspath_prepend(cache)
    for name in [n for n in sys.modules if n.startswith("transformers_modules")]:
        del sys.modules[name]


@pytest.fixture
def exported(pretrained_folder, tmp_path):
    export_run(pretrained_folder, tmp_path / "encoder", formats=["transformers"])
    return tmp_path / "encoder"


@pytest.fixture
def masked(waveforms):
    """(B, S) waveforms, (B, S) attention mask, (B,) relative lengths."""
    wavs, wav_lens = waveforms
    samples = torch.round(wav_lens * wavs.shape[1]).long().unsqueeze(1)
    return wavs, (torch.arange(wavs.shape[1]) < samples).long(), wav_lens


def load(folder, kind=AutoModel, **options):
    return kind.from_pretrained(str(folder), trust_remote_code=True, **options)


def close(first, second):
    torch.testing.assert_close(first, second, rtol=0, atol=1e-5)


def ours(folder, wavs, wav_lens):
    """Frames of each waveform, from the run folder."""
    run = SpeechEncoder(folder)
    with torch.no_grad():
        frames, lengths = run.frontend(wavs, wav_lens)
        hidden = run.encoder.hidden_states(frames, lengths)
        return run.encoder(frames, lengths), hidden, lengths.tolist()


@torch.no_grad()
def test_states_are_those_of_the_run(pretrained_folder, exported, masked):
    wavs, mask, wav_lens = masked
    model = load(exported)
    assert not model.training
    out = model(wavs, attention_mask=mask, output_hidden_states=True)
    last, hidden, lengths = ours(pretrained_folder, wavs, wav_lens)
    assert len(out.hidden_states) == len(hidden) == 3
    pairs = [
        (out.last_hidden_state, last),
        *zip(out.hidden_states, hidden, strict=True),
    ]
    for mine, right in pairs:
        for row, length in enumerate(lengths):
            close(mine[row, :length], right[row, :length])
            assert not mine[row, length:].any()


@torch.no_grad()
def test_without_a_mask_everything_is_speech(pretrained_folder, exported, masked):
    wavs = masked[0]
    last, _, _ = ours(pretrained_folder, wavs, torch.ones(len(wavs)))
    model = load(exported)
    close(model(wavs).last_hidden_state, last)
    close(model(wavs, return_dict=False)[0], last)
    assert model(wavs).hidden_states is None


@torch.no_grad()
def test_what_is_saved_loads_again(exported, masked, tmp_path):
    model = load(exported)
    model.save_pretrained(tmp_path / "again")
    shutil.rmtree(exported)
    again = load(tmp_path / "again")
    close(again(*masked[:2]).last_hidden_state, model(*masked[:2]).last_hidden_state)


def test_gradients_reach_every_parameter(exported, masked):
    model = load(exported).train()
    assert not model.features.frontend.training
    model(*masked[:2]).last_hidden_state.square().sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_the_feature_extractor_makes_the_mask(exported, masked):
    wavs, mask, _ = masked
    extractor = AutoFeatureExtractor.from_pretrained(str(exported))
    pieces = [w[: int(m.sum())].numpy() for w, m in zip(wavs, mask, strict=True)]
    found = extractor(pieces, sampling_rate=16000, return_tensors="pt", padding=True)
    assert torch.equal(found["input_values"], wavs)
    assert torch.equal(found["attention_mask"].long(), mask)


# Fine-tuned runs.


@torch.no_grad()
def test_texts_are_those_of_the_recogniser(run_folder, recogniser_folder, masked):
    wavs, mask, _ = masked
    model = load(recogniser_folder, AutoModelForCTC)
    processor = load(recogniser_folder, AutoProcessor)
    logits = model(wavs, attention_mask=mask).logits
    texts = processor.batch_decode(logits.argmax(-1))
    run = Recogniser(run_folder)
    output = run(wavs, mask.sum(1) / wavs.shape[1])
    assert [" ".join(text.split()) for text in texts] == run.decoder(*output)
    for row, length in enumerate(output.lengths.tolist()):
        close(logits[row, :length].log_softmax(-1), output.log_probs[row, :length])


@torch.no_grad()
def test_the_encoder_of_a_recogniser_is_loaded_alone(run_folder, recogniser_folder):
    wavs = torch.randn(1, 8000)
    last, _, _ = ours(run_folder, wavs, torch.ones(1))
    close(load(recogniser_folder)(wavs).last_hidden_state, last)


def test_the_loss_is_ctcs_for_each_token(recogniser_folder, masked):
    """Against the sum over all alignments, in float64."""
    model = load(recogniser_folder, AutoModelForCTC)
    wavs, mask = masked[0][:2, :4000], masked[1][:2, :4000]
    labels = torch.tensor([[2, 3, 3], [4, -100, -100]])
    with torch.no_grad():
        out = model(wavs, attention_mask=mask, labels=labels)
    log_probs = out.logits.double().log_softmax(-1)
    total = sum(
        -forward_sum(p, text)
        for p, text in zip(log_probs, ([2, 3, 3], [4]), strict=True)
    )
    torch.testing.assert_close(out.loss.double(), total / 4, rtol=1e-5, atol=1e-5)


def test_unknown_letters_and_padding_are_no_targets(recogniser_folder, masked):
    """The tokenizer gives both the number of the blank, which CTC has no target for."""
    model = load(recogniser_folder, AutoModelForCTC)
    wavs, mask = masked[0][:2, :4000], masked[1][:2, :4000]
    with torch.no_grad():
        blanks, none = (
            model(wavs, attention_mask=mask, labels=torch.tensor(labels)).loss
            for labels in ([[2, 0, 3], [4, 0, 0]], [[2, 3, -100], [4, -100, -100]])
        )
        unknown = model(wavs, attention_mask=mask, labels=torch.zeros(2, 3).long())
    assert blanks == none
    assert unknown.loss.isfinite()  # of blanks only


def forward_sum(log_probs, text):
    """log of the probability of a text: CTC's forward recursion, state by state."""
    states = [0]
    for token in text:
        states += [token, 0]
    alpha = [log_probs[0, s] if i < 2 else NEVER for i, s in enumerate(states)]
    for frame in log_probs[1:]:
        alpha = [
            frame[s]
            + torch.logsumexp(
                torch.stack(
                    [
                        alpha[i],
                        alpha[i - 1] if i >= 1 else NEVER,
                        alpha[i - 2] if i >= 2 and s and s != states[i - 2] else NEVER,
                    ]
                ),
                0,
            )
            for i, s in enumerate(states)
        ]
    return torch.logsumexp(torch.stack(alpha[-2:]), 0)


NEVER = torch.tensor(-torch.inf, dtype=torch.float64)


def test_without_the_package_one_sentence_says_so(exported):
    """In a process of its own, in which the package cannot be imported."""
    code = (
        "import sys; sys.modules['speechbrain_birq'] = None\n"
        f"sys.path.insert(0, {str(exported)!r})\n"
        "import modeling_birq\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 1
    assert "needs the package speechbrain_birq" in done.stderr.splitlines()[-1]


def test_the_config_names_what_users_ask_for(exported):
    config = json.loads((exported / "config.json").read_text())
    assert config["hidden_size"] == 16 and config["num_hidden_layers"] == 2
    assert config["inputs_to_logits_ratio"] == 640 and config["sampling_rate"] == 16000
    assert "AutoModelForCTC" not in config["auto_map"]


HALF = [torch.float16, torch.bfloat16]


@torch.no_grad()
@pytest.mark.parametrize("dtype", HALF)
def test_half_precision_is_that_of_the_run(make_run_folder, masked, tmp_path, dtype):
    folder, (wavs, mask, wav_lens) = make_run_folder("global"), masked
    export_run(folder, tmp_path / "half", formats=["transformers"])
    run = Recogniser(folder).to(dtype)
    expected, lengths = run(wavs, wav_lens)
    read = load(tmp_path / "half", AutoModelForCTC, dtype=dtype)
    for model in (read, load(tmp_path / "half", AutoModelForCTC).to(dtype)):
        logits = model(wavs, attention_mask=mask).logits
        assert logits.dtype == dtype
        for row, wanted, length in zip(logits, expected, lengths, strict=True):
            close(row[:length].float().log_softmax(-1), wanted[:length])
        frontend = model.birq.features.frontend
        assert {b.dtype for b in frontend.buffers() if b.is_floating_point()} == {
            torch.float32
        }


@torch.no_grad()
@pytest.mark.parametrize("dtype", HALF)
def test_all_layers_come_in_half_precision(run_folder, masked, dtype):
    wavs, _, wav_lens = masked
    features = PretrainedEncoder(run_folder=run_folder).eval().to(dtype)
    hidden, _ = features.hidden_states(wavs, wav_lens)
    run = SpeechEncoder(run_folder).to(dtype)
    for layer, states in enumerate(hidden):
        torch.testing.assert_close(states, run(wavs, wav_lens, layer).features)
