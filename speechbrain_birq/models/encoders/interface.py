"""The one interface of all encoders: what every stage asks of them."""

from typing import Any, Protocol

import torch


class Encoder(Protocol):
    """A ``torch.nn.Module`` that encodes padded frames; see ``docs/encoders.md``.

    The output of an utterance depends neither on its padding, nor on its batch, nor on
    what an earlier call left behind.
    """

    @property
    def num_layers(self) -> int:
        """K"""

    @property
    def output_dim(self) -> int:
        """H"""

    def __call__(
        self,
        frames: torch.Tensor,
        lengths: torch.Tensor,
        num_layers: int | None = None,
        **options: Any,
    ) -> torch.Tensor:
        """Encode: (B, T, D), (B,) valid frames -> (B, T, H).

        With ``num_layers`` = k only layers 1..k run, and layer k's output is returned
        as it is. ``chunk`` is passed only to an encoder that has ``check_chunks``.
        """

    def hidden_states(
        self, frames: torch.Tensor, lengths: torch.Tensor, **options: Any
    ) -> tuple[torch.Tensor, ...]:
        """Return the input of the first layer and every layer's output, K + 1."""

    def set_dropout(self, dropout: float) -> None:
        """Change the dropout everywhere."""

    def train(self, mode: bool = True) -> Any:
        """Set the training mode, as every module does."""

    def eval(self) -> Any:
        """Set the evaluation mode, as every module does."""

    def requires_grad_(self, requires_grad: bool = True) -> Any:
        """Let parameters have gradients or not, as every module does."""


def check_encoder(encoder: Any) -> None:
    """Refuse a module that lacks what every stage asks of an encoder.

    Raises
    ------
    ValueError
        Naming what it lacks.

    Example
    -------
    >>> check_encoder(torch.nn.LSTM(8, 8))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: LSTM lacks output_dim, hidden_states, set_dropout: see docs/encod...
    """
    needed = ("num_layers", "output_dim", "hidden_states", "set_dropout")
    missing = [name for name in needed if not hasattr(encoder, name)]
    if missing:
        raise ValueError(
            f"{type(encoder).__name__} lacks {', '.join(missing)}: see docs/encoders.md"
        )
