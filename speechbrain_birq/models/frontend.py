"""Waveform to stacked, normalised log-mel frames: the one front end of every stage."""

import math
from typing import NamedTuple

import torch
from speechbrain.dataio.dataio import length_to_mask
from speechbrain.lobes.features import Fbank

from speechbrain_birq.models.channel_statistics import FLOOR, ChannelStatistics

NORMALIZE = ("utterance", "global")


class Frames(NamedTuple):
    """A padded batch of frames and the number of valid ones of each utterance."""

    frames: torch.Tensor
    lengths: torch.Tensor

    @property
    def valid(self) -> torch.Tensor:
        """(B, T) bool, True where a frame is not padding."""
        return valid_frames(self.lengths, self.frames.shape[1])


def valid_frames(lengths: torch.Tensor, num_frames: int) -> torch.Tensor:
    """Boolean mask (B, T) of the frames before each utterance's end.

    Example
    -------
    >>> valid_frames(torch.tensor([1, 2]), 3).tolist()
    [[True, False, False], [True, True, False]]
    """
    return length_to_mask(lengths, max_len=num_frames, dtype=torch.bool)


class FrontEnd(torch.nn.Module):
    """Log-mel filterbank, normalised, neighbouring frames stacked.

    Each mel channel gets mean 0 and variance 1: over the valid frames of its own
    utterance (``utterance``), or with frozen statistics of training speech (``global``:
    a frame depends on no later one, so that audio can be streamed, but a recording's
    loudness stays in it). Either way the result depends neither on padding nor on the
    rest of the batch. Without normalisation the anchor labels fall to a few codes. Runs
    in float32 whatever autocast says.

    Arguments
    ---------
    sample_rate : int
        Hz, of every waveform that comes in.
    n_mels : int
        Number of mel channels.
    win_length : float
        Analysis window in ms.
    hop_length : float
        Shift in ms.
    stack : int
        Neighbouring frames joined to one; an incomplete last group is dropped.
        2 gives 50 frames a second at a shift of 10 ms.
    normalize : str
        ``utterance``, or ``global``, which needs ``estimate`` once or a checkpoint.

    Raises
    ------
    ValueError
        If ``normalize`` is neither of the two.

    Example
    -------
    >>> frontend = FrontEnd(n_mels=80, stack=2)
    >>> frames, lengths = frontend(torch.randn(2, 16000), torch.tensor([1.0, 0.5]))
    >>> frames.shape, lengths.tolist()
    (torch.Size([2, 50, 160]), [50, 25])
    """

    def __init__(
        self,
        *,
        sample_rate=16000,
        n_mels=80,
        win_length=25,
        hop_length=10,
        stack=2,
        normalize="utterance",
    ):
        super().__init__()
        if normalize not in NORMALIZE:
            raise ValueError(
                f"normalize must be 'utterance' or 'global', got {normalize!r}"
            )
        self.normalize, self.statistics = normalize, None
        if normalize == "global":
            self.statistics = ChannelStatistics(num_channels=n_mels)
        self.sample_rate, self.n_mels, self.stack = sample_rate, n_mels, stack
        self.hop_samples = round(sample_rate * hop_length / 1000)
        self.fbank = Fbank(
            sample_rate=sample_rate,
            n_mels=n_mels,
            # Even: with odd ones (22,050 Hz) torch gives a frame too few.
            n_fft=2 * round(sample_rate * win_length / 2000),
            win_length=win_length,
            hop_length=hop_length,
        )
        # A floor 80 dB below the loudest frame would make every frame depend on the
        # whole utterance, and on its padding.
        self.fbank.compute_fbanks.top_db = math.inf

    @property
    def output_dim(self) -> int:
        """Features of one stacked frame, d_i of the paper."""
        return self.n_mels * self.stack

    @property
    def frame_ms(self) -> float:
        """Time that one stacked frame covers, in ms."""
        return 1000 * self.hop_samples * self.stack / self.sample_rate

    def num_frames(self, num_samples):
        """Stacked frames that ``num_samples`` samples give (int or tensor)."""
        return (num_samples // self.hop_samples + 1) // self.stack

    def forward(self, wavs: torch.Tensor, wav_lens: torch.Tensor) -> Frames:
        """Compute frames.

        Arguments
        ---------
        wavs : torch.Tensor
            (B, S) waveforms, padded on the right.
        wav_lens : torch.Tensor
            (B,) relative lengths.

        Returns
        -------
        Frames
            frames (B, T, D) float32, zero on padding; lengths (B,) int64.
        """
        samples = torch.round(wav_lens * wavs.shape[1]).long()
        mels = self.log_mels(wavs)
        if self.statistics is None:
            mels = normalize(mels, samples // self.hop_samples + 1)
        else:
            mels = self.statistics(mels)
        frames, lengths = self.stacked(mels), self.num_frames(samples)
        # The group that an utterance's last frames do not fill is padding, too.
        valid = valid_frames(lengths, frames.shape[1])
        return Frames(frames.masked_fill(~valid.unsqueeze(-1), 0.0), lengths)

    @torch.no_grad()
    def log_mels(self, wavs: torch.Tensor) -> torch.Tensor:
        """Decibels of each mel channel before any normalisation, (B, S) -> (B, T, C).

        Frame t is centred at sample ``t * hop_samples``; before the first sample and
        after the last one there are zeros.
        """
        with torch.autocast(wavs.device.type, enabled=False):
            return self.fbank(wavs.float())

    def estimate(self, signals, seconds: float) -> None:
        """Estimate the statistics of ``normalize: global``; from then on they stand.

        Arguments
        ---------
        signals : iterable
            Of (S,) waveforms; no more is read than is needed.
        seconds : float
            Of speech altogether; the last waveform is cut.

        Raises
        ------
        ValueError
            If the front end normalises per utterance, or there is no sample.
        """
        if self.statistics is None:
            raise ValueError("normalize: utterance has no statistics to estimate")
        budget = round(seconds * self.sample_rate)
        self.statistics.estimate(self._within(signals, budget))

    def _within(self, signals, budget):
        for signal in signals:
            signal = signal[:budget]
            if len(signal):
                yield self.log_mels(signal.unsqueeze(0))[0]
            budget -= len(signal)
            if budget <= 0:
                return

    def stacked(self, mels: torch.Tensor) -> torch.Tensor:
        """Join neighbours, (B, T, C) -> (B, T // stack, stack * C)."""
        batch, time, channels = mels.shape
        groups = time // self.stack
        mels = mels[:, : groups * self.stack]
        return mels.reshape(batch, groups, self.stack * channels)


def normalize(mels: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Mean 0 and variance 1 for each channel over the valid frames; padding is 0.

    Arguments
    ---------
    mels : torch.Tensor
        (B, T, C)
    lengths : torch.Tensor
        (B,) valid frames, at least 1.

    Returns
    -------
    torch.Tensor
        (B, T, C)

    Example
    -------
    >>> normalize(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([2])).squeeze()
    tensor([-1.0000,  1.0000,  0.0000])
    """
    valid = valid_frames(lengths, mels.shape[1]).unsqueeze(-1)
    count = valid.sum(1, keepdim=True)
    mean = (mels * valid).sum(1, keepdim=True) / count
    centred = (mels - mean) * valid
    variance = centred.square().sum(1, keepdim=True) / count
    return centred * torch.rsqrt(variance + FLOOR)
