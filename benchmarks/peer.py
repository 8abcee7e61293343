"""SpeechBrain's side of the step benchmark: its BEST-RQ recipe, or the same step.

SpeechBrain's wheel does not contain the recipe. Get its folder from SpeechBrain's
repository (``recipes/LibriSpeech/self-supervised-learning/BEST-RQ``) and name it with
``--peer_recipe``. Without this option, the recipe's step is built here from
``speechbrain.lobes`` and ``speechbrain.nnet``.
"""

import importlib.util
from pathlib import Path

import speechbrain as sb
import torch
from arms import HOP, STRIDE, Arm, Size, Step, ready
from hyperpyyaml import load_hyperpyyaml
from speechbrain.lobes.features import Fbank
from speechbrain.lobes.models.convolution import ConvolutionFrontEnd
from speechbrain.lobes.models.transformer.TransformerASR import (
    EncoderWrapper,
    TransformerASR,
)
from speechbrain.nnet.linear import Linear
from speechbrain.nnet.quantisers import RandomProjectionQuantizer
from speechbrain.nnet.schedulers import NoamScheduler
from speechbrain.processing.features import InputNormalization
from speechbrain.utils.epoch_loop import EpochCounter
from speechbrain.utils.run_opts import RunOptions


def build(arm: Arm, size: Size, folder, device, recipe=None) -> Step:
    """Build SpeechBrain's BEST-RQ, ready to train, with full context and no chunks."""
    if recipe is None:
        brain_class, hparams = WheelBrain, wheel_hparams(arm, size)
    else:
        brain_class, hparams = recipe_parts(Path(recipe), arm, size, folder)
    options = {"device": device, "precision": arm.precision, "max_grad_norm": 10.0}
    options |= {"grad_accumulation_factor": 1, "compile": arm.compiled}
    options |= {"compile_using_dynamic_shape_tracing": arm.compiled}
    brain = brain_class(
        modules=hparams["modules"],
        opt_class=hparams["optimizer"],
        hparams=hparams,
        run_opts=RunOptions.from_dictionary(options),
    )
    hparams["compute_features"].to(device)
    hparams["epoch_counter"].current = 1
    return Step(ready(brain), batch, sections(brain, hparams), frames)


def recipe_parts(folder, arm, size, run_folder):
    """Load the recipe's own Brain and its YAML with the sizes of an arm."""
    spec = importlib.util.spec_from_file_location("peer_recipe", folder / "train.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    overrides = dict(data_folder=str(run_folder), output_folder=str(run_folder))
    overrides |= dict(streaming=False, cb_vocab=arm.num_codes, d_model=size.d_model)
    overrides |= dict(num_encoder_layers=size.num_layers, nhead=size.nhead)
    overrides |= dict(d_ffn=size.d_ffn)
    with open(folder / "hparams/BEST-RQ.yaml", encoding="utf-8") as file:
        return module.BestRQBrain, load_hyperpyyaml(file, overrides)


def wheel_hparams(arm, size) -> dict:
    """Build the objects that the recipe's YAML declares."""
    transformer = TransformerASR(
        tgt_vocab=2048,
        input_size=640,
        d_model=size.d_model,
        nhead=size.nhead,
        num_encoder_layers=size.num_layers,
        num_decoder_layers=0,
        d_ffn=size.d_ffn,
        dropout=0.1,
        activation=torch.nn.GELU,
        conformer_activation=torch.nn.GELU,
        encoder_module="conformer",
        attention_type="RelPosMHAXL",
        normalize_before=True,
        causal=False,
    )
    convolutions = ConvolutionFrontEnd(
        (8, 10, 80),
        num_blocks=2,
        num_layers_per_block=1,
        out_channels=(128, 32),
        kernel_sizes=(3, 3),
        strides=(2, 2),
        residuals=(False, False),
    )
    modules = {
        "CNN": convolutions,
        "wrapper": EncoderWrapper(transformer),
        "Quantizer": RandomProjectionQuantizer(80 * STRIDE, 16, arm.num_codes),
        "normalize": InputNormalization(norm_type="sentence"),
        "linear": Linear(input_size=size.d_model, n_neurons=arm.num_codes),
    }
    return {
        "modules": modules,
        "optimizer": lambda parameters: torch.optim.AdamW(
            parameters, lr=8e-4, betas=(0.9, 0.98), eps=1e-9, weight_decay=0.01
        ),
        "compute_features": Fbank(sample_rate=16000, n_fft=400, n_mels=80),
        "normalize": modules["normalize"],
        "noam_annealing": NoamScheduler(lr_initial=8e-4, n_warmup_steps=25000),
        "epoch_counter": EpochCounter(limit=1),
    }


class WheelBrain(sb.Brain):
    """The recipe's step: logits of all frames, then those of the masked frames."""

    def compute_forward(self, batch, stage):
        """Return logits (B M, N) and codes (B M,) of the masked frames."""
        wavs, wav_lens, masked = (part.to(self.device) for part in batch)
        features = self.hparams.compute_features(wavs)
        features = self.modules.normalize(features, wav_lens, epoch=1)
        missing = -features.shape[1] % STRIDE
        features = torch.nn.functional.pad(features, (0, 0, missing, 0))
        steps = masked[::STRIDE] // STRIDE
        stacked = features.unflatten(1, (-1, STRIDE)).flatten(2)
        codes = self.modules.Quantizer(stacked[:, steps])
        shape = (len(features), len(masked), features.shape[2])
        features[:, masked] = torch.normal(0, 0.1, shape, device=self.device)
        states = self.modules.CNN(features)
        states = self.modules.wrapper(states, wav_lens, dynchunktrain_config=None)
        logits = self.modules.linear(states)[:, steps]
        return logits.flatten(0, 1), codes.flatten()

    def compute_objectives(self, predictions, batch, stage):
        """Return the cross-entropy."""
        return torch.nn.functional.cross_entropy(*predictions)

    def on_fit_batch_end(self, batch, outputs, loss, should_step):
        """Set the learning rate of the next step."""
        self.hparams.noam_annealing(self.optimizer)


def batch(audio):
    """Return waveforms, relative lengths and the masked frames before stacking."""
    masked = audio.masked.unsqueeze(1) * STRIDE + torch.arange(STRIDE)
    return audio.wavs, audio.wav_lens, masked.flatten()


def frames(samples):
    """Return the number of encoder frames; an incomplete first group is padded."""
    return -(-(samples // HOP + 1) // STRIDE)


def sections(brain, hparams) -> dict:
    """Return the parts of a step; the rest of ``compute_forward`` masks frames."""
    modules = brain.modules
    return {
        "masks": [(brain, "compute_forward")],
        "features": [
            (hparams["compute_features"], "forward"),
            (modules.normalize, "forward"),
        ],
        "quantizer": [(modules.Quantizer, "forward")],
        "encoder": [(modules.CNN, "forward"), (modules.wrapper, "forward")],
        "head and loss": [(modules.linear, "forward"), (brain, "compute_objectives")],
        "optimizer": [(brain, "optimizers_step")],
    }
