"""A run as an upstream of s3prl: waveforms to the states of all layers."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from speechbrain_birq.errors import BadInput
from speechbrain_birq.inference.export.loading import load_exported

RATE = 16000  # Hz, of all waveforms in s3prl


class UpstreamExpert(torch.nn.Module):
    """What s3prl asks of an upstream: ``expert.py`` of an exported folder has it.

    Arguments
    ---------
    ckpt : str or Path
        The exported folder, or a file in it.
    model_config : str, optional
        Not used: the folder describes the model.
    trust : iterable
        Packages whose classes the folder may build.
    **options
        Not used; s3prl passes more than an upstream needs.

    Raises
    ------
    BadInput
        If the folder cannot be loaded, or the run has another rate than 16 kHz.
    """

    def __init__(
        self,
        ckpt: str | Path,
        model_config: str | None = None,
        trust: Iterable[str] = (),
        **options: Any,
    ) -> None:
        super().__init__()
        self.name = "[BiRQ]"
        folder = Path(ckpt)
        self.features = load_exported(
            folder if folder.is_dir() else folder.parent, trust
        )
        frontend = self.features.frontend
        if frontend.sample_rate != RATE:
            raise BadInput(
                f"{folder} has {frontend.sample_rate} Hz, s3prl has {RATE} Hz: "
                f"pretrain at {RATE} Hz"
            )
        self.stride = frontend.hop_samples * frontend.stack
        self.shortest = frontend.hop_samples * (frontend.stack - 1)  # of one frame

    def get_downsample_rates(self, key: str) -> int:
        """Return the number of samples from one state to the next."""
        return self.stride

    def forward(self, wavs: Sequence[torch.Tensor]) -> dict[str, Any]:
        """Encode waveforms.

        Arguments
        ---------
        wavs : sequence of torch.Tensor
            B waveforms (S,), at 16 kHz.

        Returns
        -------
        dict
            ``hidden_states``: K + 1 of (B, T, H), zero on padding; the input of the
            first layer, then the output of each. ``last_hidden_state`` is the last.
        """
        device = wavs[0].device
        lengths = torch.tensor(
            [max(len(w), self.shortest) for w in wavs], device=device
        )
        padded = pad_sequence(list(wavs), batch_first=True)
        # s3prl expects one state for every beginning ``stride`` of the longest.
        total = -(-max(int(lengths.max()), 1) // self.stride) * self.stride
        padded = torch.nn.functional.pad(padded, (0, total - padded.shape[1]))
        states, _ = self.features.hidden_states(padded, lengths / total)
        return {"hidden_states": states, "last_hidden_state": states[-1]}
