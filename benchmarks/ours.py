"""Our side of the step benchmark: the model of a YAML file at a given size."""

from functools import partial
from pathlib import Path

import torch
from arms import STRIDE, Arm, Size, Step, ready
from speechbrain.dataio.batch import PaddedBatch
from speechbrain.utils.run_opts import RunOptions

import speechbrain_birq.models.birq as method
from speechbrain_birq.config import load_configuration
from speechbrain_birq.data.pipeline import MaskItem
from speechbrain_birq.models.encoders.encoder import SpeechBrainEncoder
from speechbrain_birq.models.encoders.inputs import ConvolutionalInput

HPARAMS = Path(__file__).parents[1] / "hparams"
CHANNELS = (128, 32)  # channels of the convolutional input, as in the peer


def build(arm: Arm, size: Size, folder, device, **run_options) -> Step:
    """Build a BEST-RQ or BiRQ that is ready to train; further options of a run."""
    hparams = settings(arm, size, folder)
    model = hparams["model"]
    model.encoder = encoder(arm, size, hparams)
    options = {"device": device, "precision": arm.precision, "compile": arm.compiled}
    options |= {"compile_using_dynamic_shape_tracing": arm.compiled} | run_options
    brain = hparams["brain_class"](
        modules={"model": model},
        opt_class=hparams["opt_class"],
        hparams=hparams,
        run_opts=RunOptions.from_dictionary(options),
        masks=MaskItem(hparams["frontend"], hparams["masking"]),
        speech=partial(iter, ()),
    )
    hparams["epoch_counter"].current = 1
    return Step(ready(brain), batch_maker(model), sections(brain, model), frames(model))


def settings(arm, size, folder) -> dict:
    """Load an arm's file with the keys of the arm."""
    overrides = dict(data_folder=str(folder), output_folder=str(folder))
    overrides |= dict(tensorboard=False, log_interval=500, stack=STRIDE)
    overrides |= dict(num_codes=arm.num_codes, num_codebooks=arm.num_codebooks)
    overrides |= dict(label_layer=arm.label_layer(size), label_gradient=arm.gradient)
    overrides |= size._asdict()
    # In few steps F would weigh nothing, and the rate be 0.
    overrides |= dict(enhanced_ramp_steps=0, warmup_steps=1)
    if arm.system == "best_rq":
        overrides |= dict(enhanced_weight_value=0.0)
    return load_configuration(HPARAMS / f"{arm.file}.yaml", overrides).hparams


def encoder(arm, size, hparams):
    """Build the encoder of an arm, with the peer's convolutional input or without."""
    frame = hparams["frontend"].output_dim
    front = None
    if arm.convolutional:
        front = ConvolutionalInput(
            input_dim=frame, d_model=size.d_model, channels=CHANNELS
        )
    return SpeechBrainEncoder(
        kind=arm.kind,
        input_dim=frame,
        attention_type=arm.attention,
        attention_window=arm.window,
        input_module=front,
        **size._asdict(),
    )


def batch_maker(model):
    """Return a function that turns ``Audio`` into a batch like the loader's."""

    def make(audio):
        items = []
        samples = (audio.wav_lens * audio.wavs.shape[1]).round().long().tolist()
        for number, (wav, length) in enumerate(zip(audio.wavs, samples, strict=True)):
            mask = torch.zeros(model.frontend.num_frames(length), dtype=torch.bool)
            mask[audio.masked] = True
            items.append({"id": f"{number}", "sig": wav[:length], "mask": mask})
        return PaddedBatch(items)

    return make


def frames(model):
    """Return the function that maps samples to encoder frames."""
    return model.frontend.num_frames


def sections(brain, model) -> dict:
    """Return the parts of a step that a profile separates."""
    return {
        "features": [(model.frontend, "forward")],
        "label pass": [(model, "select_labels")],
        "quantizer": [
            (model.anchor_quantizer, "distances"),
            (model.enhanced_quantizer, "distances"),
            (model.selector, "forward"),
        ],
        "masks": [(method, "fill_masked")],
        "encoder": [(model, "encode_masked")],
        "head and loss": [(method, "masked_objective")],
        "optimizer": [(brain, "optimizers_step")],
    }
