"""The feed-forward module of a layer with two halves of it."""

import torch
from speechbrain.nnet.activations import Swish
from speechbrain.nnet.attention import PositionalwiseFeedForward


def feed_forward(d_model: int, d_ffn: int, dropout: float) -> torch.nn.Sequential:
    """Make a LayerNorm and two linear layers with a Swish between them.

    Example
    -------
    >>> feed_forward(8, 32, 0.1)(torch.randn(2, 5, 8)).shape
    torch.Size([2, 5, 8])
    """
    return torch.nn.Sequential(
        torch.nn.LayerNorm(d_model),
        PositionalwiseFeedForward(
            d_ffn, input_size=d_model, dropout=dropout, activation=Swish
        ),
        torch.nn.Dropout(dropout),
    )
