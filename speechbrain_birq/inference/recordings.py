"""Read a recording: a file of any rate and format, or samples."""

import os
from collections.abc import Iterable
from pathlib import Path

import torch

from speechbrain_birq.data.audio_checks import check_samples, printable
from speechbrain_birq.data.headers import measure
from speechbrain_birq.data.pipeline import AudioReader
from speechbrain_birq.errors import BadInput
from speechbrain_birq.models.frontend import FrontEnd

# A file, or samples (S,) at the run's rate.
Recording = str | Path | torch.Tensor


class RecordingReader:
    """Reads recordings for a front end; what cannot be used is one sentence.

    Arguments
    ---------
    frontend : FrontEnd

    Example
    -------
    >>> reader = RecordingReader(FrontEnd())
    >>> reader(torch.zeros(16000)).shape
    torch.Size([16000])
    >>> reader.seconds(torch.zeros(16000))
    1.0
    """

    def __init__(self, frontend: FrontEnd) -> None:
        self.rate, self.num_frames = frontend.sample_rate, frontend.num_frames
        self.reader = AudioReader(self.rate)

    def __call__(self, recording: Recording) -> torch.Tensor:
        """Return the samples (S,) float32, mono, at the front end's rate.

        Raises
        ------
        BadInput
            If it is neither file nor tensor, there is no such file, it cannot be read,
            or it is shorter than a frame.
        """
        if isinstance(recording, str | os.PathLike):
            signal = self._read(recording)
        else:
            signal = checked(recording)
        if self.num_frames(len(signal)) < 1:
            milliseconds = 1000 * len(signal) / self.rate
            raise BadInput(
                f"{named(recording)} is shorter than one frame: it has "
                f"{milliseconds:.0f} ms"
            )
        return signal

    def seconds(self, recording: Recording) -> float:
        """Return the duration that a header promises; 0 if it cannot be read."""
        if isinstance(recording, torch.Tensor):
            return recording.numel() / self.rate
        try:
            return measure(Path(recording))
        except (OSError, TypeError, ValueError):
            return 0.0  # the reason is given where the file is read

    def _read(self, path):
        if not Path(path).is_file():
            raise BadInput(f"no audio file {path}")
        try:
            return self.reader.read(str(path))
        except Exception as error:  # soundfile raises many kinds
            reason = printable(str(error))
            raise BadInput(f"cannot read {path} as audio ({reason})") from error


def checked(samples: torch.Tensor) -> torch.Tensor:
    """Return samples (S,) as float32.

    Raises
    ------
    BadInput
        If they are no tensor, have more dimensions, are integers, or are not finite.
    """
    if not isinstance(samples, torch.Tensor):
        raise BadInput(
            f"a recording is a file or a tensor (S,) of samples, not "
            f"{type(samples).__name__}: give torch.as_tensor(samples)"
        )
    if samples.ndim != 1 or not samples.is_floating_point():
        kind = str(samples.dtype).removeprefix("torch.")
        raise BadInput(
            f"a recording is a file or a tensor (S,) of floating-point samples, "
            f"not {kind} {tuple(samples.shape)}: call the module itself with a "
            f"padded batch (B, S)"
        )
    try:
        if len(samples):
            check_samples(samples)
    except ValueError as error:
        raise BadInput(f"{named(samples)} cannot be used ({error})") from error
    return samples.detach().float()


def listed(recordings: Iterable[Recording]) -> list[Recording]:
    """Return many recordings as a list.

    Raises
    ------
    BadInput
        If it is the name of one file, whose letters would count as files.
    """
    if isinstance(recordings, str | os.PathLike):
        raise BadInput(f"{recordings} is one recording: give a list of them")
    return list(recordings)


def named(recording: Recording) -> str:
    """Name a recording in a sentence.

    Example
    -------
    >>> named("a.wav"), named(torch.zeros(5))
    ('a.wav', 'a tensor of 5 samples')
    """
    if isinstance(recording, torch.Tensor):
        return f"a tensor of {recording.numel()} samples"
    return str(recording)
