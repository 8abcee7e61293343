"""Waveform to stacked, normalized log-mel frames: the one front end of every stage."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeVar

import torch
from speechbrain.dataio.dataio import length_to_mask

from speechbrain_birq.models.channel_statistics import FLOOR, ChannelStatistics
from speechbrain_birq.models.filterbank import LogMelFilterbank
from speechbrain_birq.models.full_precision import FullPrecision

NORMALIZE = ("utterance", "global")
Number = TypeVar("Number", int, torch.Tensor)


class Frames(NamedTuple):
    """A padded batch of frames, and how many of each utterance are valid."""

    frames: torch.Tensor  # (B, T, D)
    lengths: torch.Tensor  # (B,) int64

    @property
    def valid(self) -> torch.Tensor:
        """Mask (B, T) bool, True where a frame is not padding."""
        return valid_frames(self.lengths, self.frames.shape[1])


def valid_frames(lengths: torch.Tensor, num_frames: int) -> torch.Tensor:
    """Return the mask (B, T) bool, True before each utterance's end.

    Arguments
    ---------
    lengths : torch.Tensor
        (B,) valid frames.
    num_frames : int
        T

    Example
    -------
    >>> valid_frames(torch.tensor([1, 2]), 3).tolist()
    [[True, False, False], [True, True, False]]
    """
    return length_to_mask(lengths, max_len=num_frames, dtype=torch.bool)


class FrontEnd(FullPrecision):
    """Log-mel filterbank, normalized, neighboring frames stacked.

    Each mel channel gets mean 0 and variance 1: over the valid frames of its own
    utterance (``utterance``), or with frozen statistics of training speech
    (``global``). With ``global`` a frame depends on no later one, so audio can be
    streamed, but a recording's loudness stays in its frames. Either way the result
    depends neither on padding nor on the rest of the batch. Without normalization the
    anchor labels collapse to a few codes. Runs in float32, under autocast and in a
    model in half precision, too.

    Arguments
    ---------
    sample_rate : int
        Rate of all waveforms, in Hz.
    n_mels : int
        Number of mel channels.
    win_length : float
        Analysis window in ms.
    hop_length : float
        Shift in ms.
    stack : int
        Number of neighboring frames joined to one; an incomplete last group is
        dropped. 2 gives 50 frames a second at a shift of 10 ms.
    normalize : str
        ``utterance``, or ``global``, which needs ``estimate`` once or a checkpoint.

    Raises
    ------
    ValueError
        If ``normalize`` is neither of the two, or a frame has no sample.

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
        sample_rate: int = 16000,
        n_mels: int = 80,
        win_length: float = 25,
        hop_length: float = 10,
        stack: int = 2,
        normalize: str = "utterance",
    ) -> None:
        super().__init__()
        if normalize not in NORMALIZE:
            raise ValueError(
                f"normalize must be 'utterance' or 'global', got {normalize!r}"
            )
        self.normalize = normalize
        self.statistics: ChannelStatistics | None = None
        if normalize == "global":
            self.statistics = ChannelStatistics(num_channels=n_mels)
        self.sample_rate, self.n_mels, self.stack = sample_rate, n_mels, stack
        self.hop_samples = round(sample_rate * hop_length / 1000)
        if self.hop_samples < 1:
            raise ValueError(f"sample_rate {sample_rate} has no sample in a frame")
        # Even, because with an odd size (22,050 Hz) torch gives a frame too few.
        n_fft = 2 * round(sample_rate * win_length / 2000)
        # Not below the window, which SpeechBrain rounds by itself (9,000 Hz).
        n_fft += 2 * (n_fft < round(sample_rate / 1000 * win_length))
        self.fbank = LogMelFilterbank(
            sample_rate=sample_rate,
            n_mels=n_mels,
            n_fft=n_fft,
            win_length=win_length,
            hop_length=hop_length,
        )

    @property
    def output_dim(self) -> int:
        """D, features of one stacked frame (d_i of the paper)."""
        return self.n_mels * self.stack

    @property
    def device(self) -> torch.device:
        """Where the filterbank lies."""
        return self.fbank.compute_fbanks.matrix.device

    @property
    def frame_ms(self) -> float:
        """Shift from one stacked frame to the next, in ms."""
        return 1000 * self.hop_samples * self.stack / self.sample_rate

    def num_frames(self, num_samples: Number) -> Number:
        """Return the number of stacked frames that ``num_samples`` samples give."""
        return (num_samples // self.hop_samples + 1) // self.stack

    def forward(self, wavs: torch.Tensor, wav_lens: torch.Tensor) -> Frames:
        """Compute stacked frames, 0 on padding.

        Arguments
        ---------
        wavs : torch.Tensor
            (B, S) waveforms, padded on the right.
        wav_lens : torch.Tensor
            (B,) relative lengths.
        """
        samples = torch.round(wav_lens * wavs.shape[1]).long()
        mels = self.log_mels(wavs)
        if self.statistics is None:
            mels = normalize(mels, samples // self.hop_samples + 1)
        else:
            mels = self.statistics(mels)
        frames, lengths = self.stacked(mels), self.num_frames(samples)
        # A group that an utterance's last frames do not fill counts as padding.
        valid = valid_frames(lengths, frames.shape[1])
        return Frames(frames.masked_fill(~valid.unsqueeze(-1), 0.0), lengths)

    @torch.no_grad()
    def log_mels(self, wavs: torch.Tensor) -> torch.Tensor:
        """Compute decibels before normalization: (B, S) -> (B, frames, n_mels).

        Frame t is centered at sample ``t * hop_samples``; before the first sample and
        after the last one there are zeros.
        """
        return self.fbank(wavs.float())  # switches autocast off itself

    def estimate(self, signals: Iterable[torch.Tensor], seconds: float) -> None:
        """Estimate the statistics of ``normalize: global``; they are frozen afterwards.

        Arguments
        ---------
        signals : iterable
            Waveforms (S,); no more are read than are needed.
        seconds : float
            Total length of the speech; the last waveform is cut.

        Raises
        ------
        ValueError
            If the front end normalizes per utterance, or there is no sample.
        """
        if self.statistics is None:
            raise ValueError("normalize: utterance has no statistics to estimate")
        budget = round(seconds * self.sample_rate)
        self.statistics.estimate(self._within(signals, budget))

    def _within(
        self, signals: Iterable[torch.Tensor], budget: int
    ) -> Iterator[torch.Tensor]:
        """Yield the frames of signals up to so many samples."""
        for signal in signals:
            signal = signal[:budget]
            if len(signal):
                yield self.log_mels(signal.unsqueeze(0))[0]
            budget -= len(signal)
            if budget <= 0:
                return

    def stacked(self, mels: torch.Tensor) -> torch.Tensor:
        """Join neighbors: (B, frames, n_mels) -> (B, T, D)."""
        batch, time, channels = mels.shape
        groups = time // self.stack
        mels = mels[:, : groups * self.stack]
        return mels.reshape(batch, groups, self.stack * channels)


def normalize(mels: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Give each channel mean 0 and variance 1 over the valid frames; padding is 0.

    Arguments
    ---------
    mels : torch.Tensor
        (B, frames, n_mels)
    lengths : torch.Tensor
        (B,) valid frames, at least 1.

    Returns
    -------
    torch.Tensor
        (B, frames, n_mels)

    Example
    -------
    >>> normalize(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([2])).squeeze()
    tensor([-1.0000,  1.0000,  0.0000])
    """
    valid = valid_frames(lengths, mels.shape[1]).unsqueeze(-1)
    count = valid.sum(1, keepdim=True)
    mean = (mels * valid).sum(1, keepdim=True) / count
    centered = (mels - mean) * valid
    variance = centered.square().sum(1, keepdim=True) / count
    return centered * torch.rsqrt(variance + FLOOR)
