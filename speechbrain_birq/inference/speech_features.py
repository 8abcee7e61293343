"""Use a run's encoder in any SpeechBrain recipe: waveforms in, states out."""

from collections.abc import Iterable
from pathlib import Path

import torch

from speechbrain_birq.checkpoints.run_folder import (
    best_checkpoint,
    load_architecture,
    load_weights,
)
from speechbrain_birq.errors import BadInput
from speechbrain_birq.inference.freezable import FreezableEncoder
from speechbrain_birq.models.encoders.interface import Encoder
from speechbrain_birq.models.frontend import FrontEnd


class SpeechFeatures(FreezableEncoder):
    """Front end and encoder as one module, with the features of pretraining.

    Arguments
    ---------
    frontend : FrontEnd
    encoder : torch.nn.Module
        An encoder as ``docs/encoders.md`` describes it.
    layer : int, optional
        1 to K: return the output of this layer; the layers above it do not run. By
        default the normalized last layer is returned.
    freeze : bool
        Whether gradients and dropout are off in any mode that a Brain sets.

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

    def __init__(
        self,
        *,
        frontend: FrontEnd,
        encoder: Encoder,
        layer: int | None = None,
        freeze: bool = False,
    ) -> None:
        super().__init__(frontend=frontend, encoder=encoder, freeze=freeze)
        if layer is not None and not 1 <= layer <= encoder.num_layers:
            raise BadInput(
                f"no layer {layer}: the encoder has 1 to {encoder.num_layers}"
            )
        self.layer = layer
        self.train()

    def forward(self, wavs: torch.Tensor, wav_lens: torch.Tensor) -> torch.Tensor:
        """Encode waveforms.

        Arguments
        ---------
        wavs : torch.Tensor
            (B, S) at the run's sampling rate.
        wav_lens : torch.Tensor
            (B,) relative lengths; they hold for the states too, to within one frame.

        Returns
        -------
        torch.Tensor
            (B, T, H), zero on padding.
        """
        return self.encode(wavs, wav_lens)[0]

    def encode(
        self, wavs: torch.Tensor, wav_lens: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what ``forward`` returns, and the number (B,) of valid frames."""
        frames = self.frontend(wavs, wav_lens)
        with self._gradients():
            encode = self._in_own_precision(self.encoder)
            states = encode(frames.frames, frames.lengths, num_layers=self.layer)
        return _zero_on_padding(states, frames), frames.lengths

    def hidden_states(
        self, wavs: torch.Tensor, wav_lens: torch.Tensor
    ) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
        """Return the outputs of all layers, and the number (B,) of valid frames.

        Returns
        -------
        tuple
            K + 1 of (B, T, H), zero on padding: the input of the first layer, and each
            layer's output as it is; (B,) int64.
        """
        frames = self.frontend(wavs, wav_lens)
        with self._gradients():
            encode = self._in_own_precision(self.encoder.hidden_states)
            states = encode(frames.frames, frames.lengths)
        return tuple(_zero_on_padding(s, frames) for s in states), frames.lengths


def _zero_on_padding(states, frames):
    return states.masked_fill(~frames.valid.unsqueeze(-1), 0.0)


class PretrainedEncoder(SpeechFeatures):
    """``SpeechFeatures`` of a run folder, with its weights.

    Arguments
    ---------
    run_folder : str or Path
        The ``output_folder`` of a pretraining or a fine-tuning.
    layer, freeze
        As for ``SpeechFeatures``.
    dropout : float, optional
        Dropout of the encoder; by default the run's own.
    trust : iterable
        Further packages whose classes the folder may build.

    Raises
    ------
    BadInput
        If the folder is no run, its weights do not fit or the layer does not exist.
    """

    def __init__(
        self,
        *,
        run_folder: str | Path,
        layer: int | None = None,
        freeze: bool = False,
        dropout: float | None = None,
        trust: Iterable[str] = (),
    ) -> None:
        parts = load_architecture(run_folder, tuple(trust))
        load_weights(parts, run_folder, best_checkpoint(run_folder))
        if dropout is not None:
            parts["encoder"].set_dropout(dropout)
        super().__init__(**parts, layer=layer, freeze=freeze)
