"""Shared fixtures: a tiny corpus of tones, tiny encoders and tiny BiRQ models."""

import os
import shutil
import sys

import pytest
import torch
from small_corpus import WORDS, tone, write_corpus
from speechbrain.utils.importutils import LazyModule

from speechbrain_birq.checkpoints.checkpointer import AtomicCheckpointer
from speechbrain_birq.checkpoints.run_folder import load_architecture, save_architecture
from speechbrain_birq.decoding.tokens import CharacterTokens
from speechbrain_birq.models.birq import BiRQ
from speechbrain_birq.models.ctc import CTCModel
from speechbrain_birq.models.encoders.encoder import SpeechBrainEncoder
from speechbrain_birq.models.frontend import FrontEnd
from speechbrain_birq.models.labels.label_norm import LabelNorm
from speechbrain_birq.models.labels.quantizer import Codebook, RandomProjectionQuantizer
from speechbrain_birq.models.labels.selector import GumbelSoftmaxSelector
from speechbrain_birq.models.objectives import PredictionHeads

pytest_plugins = [
    "brain_fixtures",
    "run_fixtures",
    "config_fixtures",
    "shard_fixtures",
    "yodas_fixtures",
]
# They hold fixtures only, and as test modules they would all have one name.
collect_ignore_glob = ["*conftest.py"]


def pytest_configure(config):
    """Give each process of `pytest -n` one core, and what it starts too."""
    if hasattr(config, "workerinput"):
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems():
    """Give lazy modules a file, because hypothesis reads it and would load them."""
    for module in list(sys.modules.values()):
        if isinstance(module, LazyModule):
            module.__file__ = None


@pytest.fixture(scope="session")
def _corpus_template(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("tones"))


@pytest.fixture
def corpus(_corpus_template, tmp_path):
    """Corpus in LibriSpeech's layout with the splits train, dev and test."""
    return shutil.copytree(_corpus_template, tmp_path / "corpus")


@pytest.fixture
def make_encoder():
    """make_encoder(kind="conformer", num_layers=2, **keywords): seeded, eval mode."""

    def make(kind="conformer", num_layers=2, *, seed=0, **keywords):
        size = dict(
            input_dim=40, d_model=16, nhead=2, d_ffn=32, kernel_size=5, dropout=0
        )
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            encoder = SpeechBrainEncoder(
                kind=kind, num_layers=num_layers, **(size | keywords)
            )
        return encoder.eval()

    return make


@pytest.fixture
def make_model(make_encoder):
    """make_model(**overrides): a seeded BiRQ of 2 layers x 16 in training mode."""

    def make(**overrides):
        options = dict(
            kind="conformer",
            num_layers=2,
            attention_type=None,
            label_layer=1,
            num_codebooks=1,
            num_codes=16,
            code_dim=8,
            l2_normalize=False,
            gradient=True,
            noise=True,
            temperature=0.5,
            shared_head=True,
            label_norm="layer",
            dropout=0,
            mask_noise_std=0.1,
            chunk=2048,
            n_mels=20,
            stack=2,
            seed=0,
            label_terms=(),
        )
        unknown = overrides.keys() - options.keys()
        assert not unknown, f"make_model knows no {sorted(unknown)}"
        o = options | overrides
        frontend = FrontEnd(n_mels=o["n_mels"], stack=o["stack"])
        encoder = make_encoder(
            o["kind"],
            o["num_layers"],
            input_dim=frontend.output_dim,
            dropout=o["dropout"],
            attention_type=o["attention_type"],
            seed=o["seed"],
        )
        codebook = Codebook(
            num_codebooks=o["num_codebooks"],
            num_codes=o["num_codes"],
            code_dim=o["code_dim"],
            l2_normalize=o["l2_normalize"],
            seed=o["seed"],
        )
        anchor, enhanced = (
            RandomProjectionQuantizer(input_dim=dim, codebook=codebook, seed=seed)
            for dim, seed in ((frontend.output_dim, 1), (encoder.output_dim, 2))
        )
        with torch.random.fork_rng():
            torch.manual_seed(o["seed"] + 1)
            heads = PredictionHeads(
                input_dim=encoder.output_dim,
                num_codebooks=o["num_codebooks"],
                num_codes=o["num_codes"],
                shared=o["shared_head"],
            )
        select = {name: o[name] for name in ("temperature", "noise", "gradient")}
        model = BiRQ(
            frontend=frontend,
            encoder=encoder,
            anchor_quantizer=anchor,
            enhanced_quantizer=enhanced,
            selector=GumbelSoftmaxSelector(**select),
            heads=heads,
            label_layer=o["label_layer"],
            label_norm=LabelNorm(kind=o["label_norm"], dim=encoder.output_dim),
            mask_noise_std=o["mask_noise_std"],
            chunk=o["chunk"],
            label_terms=o["label_terms"],
        )
        return model.train()

    return make


@pytest.fixture
def fails(capsys):
    """fails(call, words...): exit status 2 and one sentence with these words."""

    def check(call, *words):
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            call()
        assert caught.value.code == 2
        printed = capsys.readouterr().err
        assert "Traceback" not in printed
        errors = [line for line in printed.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1, printed
        assert printed.splitlines()[-1] == errors[0]
        assert len(errors[0]) < 500
        for word in words:
            assert word in errors[0], errors[0]
        return errors[0]

    return check


ARCHITECTURE = """
frontend: !new:speechbrain_birq.models.frontend.FrontEnd
    n_mels: 40
    stack: 4
    normalize: {normalize}
encoder: !new:speechbrain_birq.models.encoders.encoder.SpeechBrainEncoder
    kind: conformer
    input_dim: 160
    num_layers: 2
    d_model: 16
    nhead: 2
    d_ffn: 32
    kernel_size: 5
"""


@pytest.fixture
def make_run_folder(tmp_path):
    """make_run_folder(normalize): a fine-tuned run with an untrained model."""

    def make(normalize="utterance"):
        folder = tmp_path / "run"
        folder.mkdir()
        text = ARCHITECTURE.format(normalize=normalize)
        save_architecture(text, folder / "architecture.yaml")
        tokens = CharacterTokens.from_texts(WORDS)
        tokens.save(folder)
        parts = load_architecture(folder)
        if normalize == "global":
            signal = torch.from_numpy(tone(2, 16000, seed=0))
            parts["frontend"].estimate([signal], seconds=2)
        model = CTCModel(**parts, num_tokens=len(tokens))
        checkpointer = AtomicCheckpointer(folder / "save", {"model": model})
        checkpointer.save_checkpoint(meta={"cer": 50.0})
        return folder

    return make


@pytest.fixture
def run_folder(make_run_folder):
    """Folder of a fine-tuned run, like finetune.py's, with an untrained model."""
    return make_run_folder()
