"""SpeechBrain's side: its BEST-RQ recipe as it is, or the same from the wheel's parts.

The recipe is not in SpeechBrain's wheel. Get its folder from SpeechBrain's repository
(``recipes/LibriSpeech/self-supervised-learning/BEST-RQ``) and name it with
``--peer_recipe``; without it the recipe's step is put together here from
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
    """SpeechBrain's BEST-RQ, ready to train; whole context, no chunks."""
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
    """The recipe's own Brain and YAML, with the arm's sizes."""
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
    """What the recipe's YAML makes."""
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
    """The recipe's step in few words: all logits, then those of the hidden frames."""

    def compute_forward(self, batch, stage):
        """Logits (B M, N) and codes (B M,) of the hidden frames."""
        wavs, wav_lens, hidden = (part.to(self.device) for part in batch)
        features = self.hparams.compute_features(wavs)
        features = self.modules.normalize(features, wav_lens, epoch=1)
        missing = -features.shape[1] % STRIDE
        features = torch.nn.functional.pad(features, (0, 0, missing, 0))
        steps = hidden[::STRIDE] // STRIDE
        stacked = features.unflatten(1, (-1, STRIDE)).flatten(2)
        codes = self.modules.Quantizer(stacked[:, steps])
        shape = (len(features), len(hidden), features.shape[2])
        features[:, hidden] = torch.normal(0, 0.1, shape, device=self.device)
        states = self.modules.CNN(features)
        states = self.modules.wrapper(states, wav_lens, dynchunktrain_config=None)
        logits = self.modules.linear(states)[:, steps]
        return logits.flatten(0, 1), codes.flatten()

    def compute_objectives(self, predictions, batch, stage):
        """Cross-entropy."""
        return torch.nn.functional.cross_entropy(*predictions)

    def on_fit_batch_end(self, batch, outputs, loss, should_step):
        """The learning rate follows."""
        self.hparams.noam_annealing(self.optimizer)


def batch(audio):
    """Audio -> (wavs, relative lengths, hidden frames before stacking)."""
    hidden = audio.hidden.unsqueeze(1) * STRIDE + torch.arange(STRIDE)
    return audio.wavs, audio.wav_lens, hidden.flatten()


def frames(samples):
    """Samples -> encoder frames; an incomplete first group is filled up."""
    return -(-(samples // HOP + 1) // STRIDE)


def sections(brain, hparams) -> dict:
    """Parts of a step; what else `compute_forward` does is hiding frames."""
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
        "optimiser": [(brain, "optimizers_step")],
    }
