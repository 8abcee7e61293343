"""A run's encoder in anyone's SpeechBrain recipe: waveforms in, states out."""

from pathlib import Path
from textwrap import indent

import torch

from speechbrain_birq.checkpoints.run_folder import (
    best_checkpoint,
    load_architecture,
    load_weights,
)
from speechbrain_birq.errors import BadInput


class SpeechFeatures(torch.nn.Module):
    """Front end and encoder as one module: the very features of pretraining.

    Arguments
    ---------
    frontend : FrontEnd
    encoder : torch.nn.Module
        As ``docs/encoders.md`` describes it.
    layer : int, optional
        1 to K: the output of this layer, and no layer above it is run. By default the
        normalised last one.
    freeze : bool
        No gradient, no dropout, whatever mode a Brain sets.

    Raises
    ------
    BadInput
        If the encoder has no such layer.

    Example
    -------
    >>> from speechbrain_birq.models.encoders.encoder import SpeechBrainEncoder
    >>> from speechbrain_birq.models.frontend import FrontEnd
    >>> encoder = SpeechBrainEncoder(
    ...     kind="conformer", input_dim=320, num_layers=2, d_model=16, nhead=2, d_ffn=32
    ... )
    >>> features = SpeechFeatures(frontend=FrontEnd(stack=4), encoder=encoder, layer=1)
    >>> features(torch.randn(2, 16000), torch.ones(2)).shape
    torch.Size([2, 25, 16])
    """

    def __init__(self, *, frontend, encoder, layer=None, freeze=False):
        super().__init__()
        if layer is not None and not 1 <= layer <= encoder.num_layers:
            raise BadInput(
                f"no layer {layer}: the encoder has 1 to {encoder.num_layers}"
            )
        self.frontend, self.encoder = frontend, encoder
        self.layer, self.freeze = layer, freeze
        if freeze:
            self.requires_grad_(False)
        self.train()

    @property
    def output_dim(self) -> int:
        """H, what a layer on top of this one takes."""
        return self.encoder.output_dim

    def train(self, mode=True):
        """Training mode, but for the front end and a frozen encoder."""
        super().train(mode)
        self.frontend.eval()
        self.encoder.train(mode and not self.freeze)
        return self

    def forward(self, wavs, wav_lens) -> torch.Tensor:
        """Encode.

        Arguments
        ---------
        wavs : torch.Tensor
            (B, S) at the run's sampling rate.
        wav_lens : torch.Tensor
            (B,) relative lengths; within one frame they are those of the states, too.

        Returns
        -------
        torch.Tensor
            (B, T, H), zero on padding.
        """
        frames = self.frontend(wavs, wav_lens)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze):
            states = self.encoder(*frames, num_layers=self.layer)
        return states.masked_fill(~frames.valid.unsqueeze(-1), 0.0)


class PretrainedEncoder(SpeechFeatures):
    """``SpeechFeatures`` of a run folder, weights included.

    Arguments
    ---------
    run_folder : str or Path
        The ``output_folder`` of a pretraining or a fine-tuning.
    layer : int, optional
    freeze : bool
        As for ``SpeechFeatures``.
    dropout : float, optional
        In place of the run's own.
    trust : tuple
        Further packages whose classes the folder may build.

    Raises
    ------
    BadInput
        If the folder is no run, its weights do not fit or the layer is not there.
    """

    def __init__(self, *, run_folder, layer=None, freeze=False, dropout=None, trust=()):
        parts = load_architecture(run_folder, tuple(trust))
        load_weights(parts, run_folder, best_checkpoint(run_folder))
        if dropout is not None:
            parts["encoder"].set_dropout(dropout)
        super().__init__(**parts, layer=layer, freeze=freeze)


HYPERPARAMS = """\
# Front end and encoder of a run of speechbrain_birq. To be loaded with
# speechbrain.inference.encoders.WaveformEncoder, or included in the YAML of a recipe.
layer: null # 1 to K: leave the encoder there; null: its last layer, normalised
freeze: False
encoder: !new:speechbrain_birq.inference.export.SpeechFeatures
    layer: !ref <layer>
    freeze: !ref <freeze>
{architecture}
modules:
    encoder: !ref <encoder>
audio_normalizer: !new:speechbrain.dataio.preprocess.AudioNormalizer
    sample_rate: {sample_rate}
pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
    loadables:
        encoder: !ref <encoder>
"""


def export_run(run_folder, folder, trust=()) -> None:
    """Write ``hyperparams.yaml`` and ``encoder.ckpt`` as SpeechBrain's tools want them.

    Arguments
    ---------
    run_folder : str or Path
    folder : str or Path
        A new or empty one.
    trust : tuple
        Further packages whose classes the run folder may build.

    Raises
    ------
    BadInput
        If the run folder is none, or the other one is in use or cannot be written.
    """
    model = PretrainedEncoder(run_folder=run_folder, trust=trust)
    path = Path(run_folder) / "architecture.yaml"
    text = HYPERPARAMS.format(
        architecture=indent(path.read_text(encoding="utf-8").rstrip(), "    "),
        sample_rate=model.frontend.sample_rate,
    )
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise BadInput(f"{folder} is not empty: give a new folder to export into")
        torch.save(model.state_dict(), folder / "encoder.ckpt")
        (folder / "hyperparams.yaml").write_text(text, encoding="utf-8")
    except (OSError, RuntimeError) as error:  # RuntimeError: torch's, on a full disk
        reason = getattr(error, "strerror", None) or error
        raise BadInput(f"cannot write {folder} ({reason}): give another one") from error
