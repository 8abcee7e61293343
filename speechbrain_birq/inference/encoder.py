"""A run's encoder as a module: waveforms, files or corpora to layers."""

from typing import NamedTuple

import torch

from speechbrain_birq.inference.layers import Layer
from speechbrain_birq.inference.loaded_run import LoadedRun


class Features(NamedTuple):
    """Outputs of layers for a padded batch, and the number of valid frames."""

    features: torch.Tensor  # (B, T, H), or (L, B, T, H) of L layers; 0 on padding
    lengths: torch.Tensor  # (B,) int64


class SpeechEncoder(LoadedRun):
    """Front end and encoder of a pretraining or a fine-tuning.

    ``encoder(wavs, wav_lens)`` encodes a padded batch and has gradients if it is not
    frozen; ``features``, ``features_of`` and ``features_as_completed`` encode
    recordings.

    Arguments
    ---------
    run_folder : str or Path
        The ``output_folder`` of the training, or the name of weights that come with
        the package (``birq_tiny``, ``best_rq_tiny``).
    trust : iterable
        Further packages whose classes the folder may build.
    freeze : bool
        Whether gradients and dropout of the encoder are off in any mode that a Brain
        sets.

    Raises
    ------
    BadInput
        If the folder is no run or its weights do not fit.
    """

    def forward(
        self,
        wavs: torch.Tensor,
        wav_lens: torch.Tensor | None = None,
        layer: Layer = None,
    ) -> Features:
        """Encode a padded batch at once.

        Arguments
        ---------
        wavs : torch.Tensor
            (B, S) or (S,) at ``frontend.sample_rate``, each of at least one frame, on
            the module's device.
        wav_lens : torch.Tensor, optional
            (B,) relative lengths, as SpeechBrain has them; by default all are 1.
        layer : None, int, "all" or sequence of int
            As for ``features``.

        Returns
        -------
        Features
            (B, T, H) or (L, B, T, H), zero on padding; (B,) valid frames.

        Raises
        ------
        BadInput
            If there is no such layer.
        """
        frames = self._frames(wavs, wav_lens)
        with self._gradients():
            states = self._layers(layer)(*frames)
        padding = ~frames.valid.view(*frames.valid.shape, *[1] * (states.ndim - 2))
        states = states.masked_fill(padding, 0.0)
        if states.ndim == 4:
            states = states.movedim(2, 0)
        return Features(states, frames.lengths)
