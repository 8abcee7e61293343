"""SpeechBrain's log-mel filterbank, with its constants on the module's device."""

import math
from typing import Any

import torch
from speechbrain.lobes.features import Fbank
from speechbrain.processing.features import Filterbank

from speechbrain_birq.models.full_precision import full_precision


class FixedFilterbank(Filterbank):
    """SpeechBrain's filters, computed once; its own computes them in each forward."""

    matrix: torch.Tensor  # (n_fft // 2 + 1, n_mels)

    def forward(self, spectrogram: torch.Tensor) -> torch.Tensor:
        """Compute decibels: (B, frames, n_fft // 2 + 1) -> (B, frames, n_mels)."""
        with full_precision(spectrogram.device):
            energies = torch.matmul(spectrogram, self.matrix)
        return self._amplitude_to_DB(energies)


class LogMelFilterbank(Fbank):
    """SpeechBrain's ``Fbank`` whose frames depend on no other frame.

    Window and filters are buffers, because a copy from the CPU in each forward would
    synchronize with the GPU. They follow from the options: no checkpoint holds them.

    Arguments
    ---------
    **options
        Those of ``Fbank``.

    Example
    -------
    >>> LogMelFilterbank(n_mels=20)(torch.randn(2, 16000)).shape
    torch.Size([2, 101, 20])
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        stft, filters = self.compute_STFT, self.compute_fbanks
        window = stft.__dict__.pop("window")
        stft.register_buffer("window", window, persistent=False)
        frequencies = filters.all_freqs_mat
        matrix = filters._create_fbank_matrix(
            filters.f_central.unsqueeze(1).expand_as(frequencies),
            filters.band.unsqueeze(1).expand_as(frequencies),
        )
        filters.__class__ = FixedFilterbank
        filters.register_buffer("matrix", matrix, persistent=False)
        # A floor 80 dB below the loudest frame would make every frame depend on the
        # whole utterance, and on its padding.
        filters.top_db = math.inf
