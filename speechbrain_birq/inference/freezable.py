"""Front end and encoder in one module, whose encoder may be frozen in any mode."""

from typing import Any

import torch

from speechbrain_birq.models.frontend import FrontEnd


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

    def train(self, mode: bool = True) -> "FreezableEncoder":
        """Set the training mode, except of the front end and a frozen encoder."""
        super().train(mode)
        self.frontend.eval()
        self.encoder.train(mode and not self.freeze)
        return self

    def _gradients(self):
        """Return a context in which the encoder has gradients, unless it is frozen."""
        return torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze)
