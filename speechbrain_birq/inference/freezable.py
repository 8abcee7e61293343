"""Front end and encoder in one module, whose encoder may be frozen in any mode."""

from collections.abc import Callable
from itertools import chain
from typing import Any

import torch

from speechbrain_birq.models.frontend import FrontEnd
from speechbrain_birq.models.full_precision import HALF


class FreezableEncoder(torch.nn.Module):
    """Base of the modules that give a run's encoder to others.

    The front end is always in evaluation mode.

    Arguments
    ---------
    frontend : FrontEnd
    encoder : torch.nn.Module
        An encoder as ``docs/encoders.md`` describes it.
    freeze : bool
        Whether gradients and dropout of the encoder are off in any mode that a Brain
        sets.
    """

    frontend: FrontEnd
    encoder: Any  # an Encoder and a torch.nn.Module

    def __init__(self, *, frontend: FrontEnd, encoder: Any, freeze: bool) -> None:
        super().__init__()
        self.frontend, self.encoder, self.freeze = frontend, encoder, freeze
        if freeze:
            self.requires_grad_(False)

    @property
    def output_dim(self) -> int:
        """H, the input dimension of a layer on top."""
        return self.encoder.output_dim

    @property
    def dtype(self) -> torch.dtype:
        """Type of the encoder's numbers; the front end has float32."""
        return self._example().dtype

    def train(self, mode: bool = True) -> "FreezableEncoder":
        """Set the training mode, except of the front end and a frozen encoder."""
        super().train(mode)
        self.frontend.eval()
        self.encoder.train(mode and not self.freeze)
        return self

    def _gradients(self):
        """Return a context in which the encoder has gradients, unless it is frozen."""
        return torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze)

    def _in_own_precision(self, encode: Callable[..., Any]) -> Callable[..., Any]:
        """Let a function of the encoder take float32 frames in any precision."""

        def rounded(
            frames: torch.Tensor, lengths: torch.Tensor, **options: Any
        ) -> torch.Tensor | list[torch.Tensor]:
            if self.dtype not in HALF:
                return encode(frames, lengths, **options)
            # Autocast, because SpeechBrain's RelPosMHAXL computes parts in float32.
            with torch.autocast(frames.device.type, self.dtype):
                states = encode(frames.to(self.dtype), lengths, **options)
            if isinstance(states, torch.Tensor):
                return states.to(self.dtype)
            return [state.to(self.dtype) for state in states]

        return rounded

    def _example(self):
        numbers = chain(self.encoder.parameters(), self.frontend.buffers())
        return next(numbers)
