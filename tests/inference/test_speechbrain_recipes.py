"""The files for stock SpeechBrain's scripts: they load, and learn what the scripts ask.

Each forward pass here calls the parts as the script's own ``compute_forward`` does.
``test_speechbrain_scripts.py`` runs the scripts themselves.
"""

import pytest
import speechbrain as sb
import torch
from hyperpyyaml import load_hyperpyyaml
from small_runs import ROOT

FOLDER = ROOT / "recipes" / "LibriSpeech" / "speechbrain"
TOKENS = torch.tensor([[3, 4, 5, 0], [6, 3, 0, 0], [4, 7, 8, 5]])
# What the scripts of SpeechBrain's commit 9c826ef read, whatever the settings.
DATA = """data_folder train_splits dev_splits test_splits skip_prep train_csv valid_csv
    test_csv output_folder save_folder output_wer_folder sorting train_dataloader_opts
    valid_dataloader_opts test_dataloader_opts modules checkpointer epoch_counter
    train_logger error_rate_computer cer_computer compute_features log_softmax
    ctc_cost"""
READ = {
    "ctc.yaml": """blank_index test_beam_search bestrq_opt_class model_opt_class
        freeze_bestrq model lr_annealing_model lr_annealing_bestrq""",
    "seq2seq.yaml": """bos_index eos_index tokenizer pretrainer prepare_noise_data
        dynamic_batching opt_class number_of_ctc_epochs ctc_weight seq_cost
        valid_search test_search lr_annealing""",
}
MODULES = {
    "ctc.yaml": "normalize CNN enc back_end_ffn ctc_lin pt_model",
    "seq2seq.yaml": "normalize enc emb dec seq_lin ctc_lin",
}
TOKEN_LENS = torch.tensor([0.75, 0.5, 1.0])


def load(name, run_folder, tmp_path, **small):
    overrides = small | {
        "run_folder": str(run_folder),
        "data_folder": "data",
        "output_folder": str(tmp_path / "out"),
    }
    with open(FOLDER / name, encoding="utf-8") as file:
        return load_hyperpyyaml(file, overrides)


def train(hparams, loss_of, optimizers, steps=12):
    """First and last of the losses."""
    torch.manual_seed(0)
    modules = torch.nn.ModuleDict(hparams["modules"]).train()
    losses = []
    for _ in range(steps):
        loss = loss_of(modules)
        loss.backward()
        losses.append(loss.item())
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    return losses[0], losses[-1]


@pytest.mark.parametrize("name", READ)
def test_a_file_has_all_that_the_script_reads(name, run_folder, tmp_path):
    hparams = load(name, run_folder, tmp_path)
    assert {*DATA.split(), *READ[name].split()} <= set(hparams)
    assert set(hparams["modules"]) == set(MODULES[name].split())


@pytest.fixture
def ctc(run_folder, tmp_path):
    small = dict(output_neurons=9, dnn_neurons=16, lr=0.01, lr_encoder=0.003)
    small |= dict(dropout=0.0, dnn_dropout=0.0)
    return load("ctc.yaml", run_folder, tmp_path, **small)


def ctc_loss(hparams, modules, waveforms):
    wavs, wav_lens = waveforms
    feats = hparams["compute_features"](wavs)
    feats = modules["normalize"](feats, wav_lens)
    x = modules["enc"](modules["CNN"](feats), wav_lens)
    logits = modules["ctc_lin"](modules["back_end_ffn"](x))
    log_probs = hparams["log_softmax"](logits)
    return hparams["ctc_cost"](log_probs, TOKENS, wav_lens, TOKEN_LENS), log_probs


def test_ctc_learns_in_all_layers(ctc, waveforms):
    before = {n: p.clone() for n, p in ctc["enc"].named_parameters()}
    optimizers = [
        ctc["bestrq_opt_class"](ctc["modules"]["pt_model"].parameters()),
        ctc["model_opt_class"](ctc["model"].parameters()),
    ]
    rates = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    assert rates == [0.003, 0.01]
    first, last = train(
        ctc, lambda modules: ctc_loss(ctc, modules, waveforms)[0], optimizers
    )
    assert last < 0.7 * first
    assert any(not torch.equal(p, before[n]) for n, p in ctc["enc"].named_parameters())


def test_every_parameter_of_ctc_has_one_optimizer(ctc):
    modules = torch.nn.ModuleDict(ctc["modules"])
    encoder = set(ctc["modules"]["pt_model"].parameters())
    top = set(ctc["model"].parameters())
    assert not encoder & top and encoder | top == set(modules.parameters())


def test_the_waveforms_reach_the_encoder_as_they_are(ctc, waveforms):
    wavs, wav_lens = waveforms
    feats = ctc["modules"]["normalize"](ctc["compute_features"](wavs), wav_lens)
    assert torch.equal(ctc["modules"]["CNN"](feats), wavs)


def test_the_beam_of_ctc_takes_the_characters_of_the_script(ctc, waveforms):
    from speechbrain.decoders.ctc import CTCBeamSearcher

    letters = ["<blank>", *"ABCDEFG", " "]
    search = CTCBeamSearcher(**ctc["test_beam_search"], vocab_list=letters)
    modules = torch.nn.ModuleDict(ctc["modules"]).eval()
    with torch.no_grad():
        log_probs = ctc_loss(ctc, modules, waveforms)[1]
    texts = [hypotheses[0].text for hypotheses in search(log_probs, waveforms[1])]
    assert len(texts) == 3 and set("".join(texts)) <= set("ABCDEFG ")


@pytest.fixture
def seq2seq(run_folder, tmp_path):
    small = dict(output_neurons=9, enc_neurons=16, emb_size=8, dec_neurons=16)
    small |= dict(dropout=0.0, label_smoothing=0.0, valid_beam_size=2)
    return load("seq2seq.yaml", run_folder, tmp_path, **small)


def seq2seq_states(hparams, modules, waveforms):
    wavs, wav_lens = waveforms
    feats = hparams["compute_features"](wavs)
    feats = modules["normalize"](feats, wav_lens)
    return modules["enc"](feats.detach())


def seq2seq_loss(hparams, modules, waveforms):
    wav_lens = waveforms[1]
    x = seq2seq_states(hparams, modules, waveforms)
    bos = torch.nn.functional.pad(TOKENS, (1, 0), value=hparams["bos_index"])
    eos = torch.nn.functional.pad(TOKENS, (0, 1), value=hparams["eos_index"])
    h, _ = modules["dec"](modules["emb"](bos), x, wav_lens)
    p_seq = hparams["log_softmax"](modules["seq_lin"](h))
    p_ctc = hparams["log_softmax"](modules["ctc_lin"](x))
    lens = (torch.round(TOKEN_LENS * 4) + 1) / 5
    loss = hparams["seq_cost"](p_seq, eos, length=lens)
    return loss + hparams["ctc_cost"](p_ctc, TOKENS, wav_lens, TOKEN_LENS)


@pytest.mark.filterwarnings("ignore:.*lr_scheduler.*:UserWarning")
def test_seq2seq_learns_above_a_frozen_run(seq2seq, waveforms):
    before = {n: p.clone() for n, p in seq2seq["normalize"].state_dict().items()}
    trained = torch.nn.ModuleDict(seq2seq["modules"]).parameters()
    optimizer = seq2seq["opt_class"](trained)
    first, last = train(
        seq2seq,
        lambda modules: seq2seq_loss(seq2seq, modules, waveforms),
        [optimizer],
        steps=30,
    )
    assert last < 0.9 * first
    for name, value in seq2seq["normalize"].state_dict().items():
        assert torch.equal(value, before[name]), name


@torch.no_grad()
def test_seq2seq_searches(seq2seq, waveforms):
    modules = torch.nn.ModuleDict(seq2seq["modules"]).eval()
    x = seq2seq_states(seq2seq, modules, waveforms)
    found, *_ = seq2seq["valid_search"](x, waveforms[1])
    assert len(found) == 3
    assert all(0 < token < 9 for tokens in found for token in tokens)


def test_what_the_script_calls_before_training_does_nothing(seq2seq):
    assert seq2seq["prepare_noise_data"]() == {}


@pytest.mark.parametrize("name", ["ctc.yaml", "seq2seq.yaml"])
def test_checkpoints_hold_what_is_trained(name, run_folder, tmp_path):
    hparams = load(name, run_folder, tmp_path)
    saved = hparams["checkpointer"].recoverables
    held = {
        id(parameter)
        for part in saved.values()
        if isinstance(part, torch.nn.Module)
        for parameter in part.parameters()
    }
    for module in hparams["modules"].values():
        for parameter in module.parameters():
            assert not parameter.requires_grad or id(parameter) in held
    assert isinstance(hparams["train_logger"], sb.utils.train_logger.FileTrainLogger)
    assert hparams["output_wer_folder"] == str(tmp_path / "out")
