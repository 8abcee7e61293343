"""E-Branchformer (Kim et al. 2022, arXiv 2210.00077) built of SpeechBrain's blocks."""

from typing import Any

import torch
from speechbrain.nnet.attention import (
    RelPosMHAXL,
    RoPEMHA,
)

from speechbrain_birq.models.encoders.feed_forward import feed_forward
from speechbrain_birq.models.encoders.padded_layers import PaddedBranch

ATTENTION = {"RoPEMHA": RoPEMHA, "RelPosMHAXL": RelPosMHAXL}


class EBranchformerEncoder(torch.nn.Module):
    """Layers of an E-Branchformer, and the LayerNorm behind the last one.

    Arguments
    ---------
    num_layers : int
        K
    d_model : int
        H
    **layer_options
        Further arguments of ``EBranchformerEncoderLayer``.

    Example
    -------
    >>> encoder = EBranchformerEncoder(num_layers=2, d_model=16, nhead=2, d_ffn=32)
    >>> len(encoder.layers), encoder.norm.normalized_shape
    (2, (16,))
    """

    def __init__(self, *, num_layers: int, d_model: int, **layer_options: Any) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(
            EBranchformerEncoderLayer(d_model=d_model, **layer_options)
            for _ in range(num_layers)
        )
        self.norm = torch.nn.LayerNorm(d_model)


class EBranchformerEncoderLayer(torch.nn.Module):
    """One layer: half a feed-forward, two branches and their merge, the other half.

    With a(x) and g(x) the attention and the gated convolution of the normalized x::

        x = x + FFN(x) / 2
        c = [a(x); g(x)]
        x = x + W (c + DepthwiseConvolution(c))
        x = LayerNorm(x + FFN(x) / 2)

    Neither convolution sees padding.

    Arguments
    ---------
    d_model : int
        H
    nhead : int
        Number of attention heads.
    d_ffn : int
        Width of the feed-forward layers and, before its gate, of the convolutional
        branch; even.
    kernel_size : int
        Width of both depthwise convolutions in frames; odd.
    dropout : float
        Dropout rate everywhere.
    attention_type : str
        ``RoPEMHA`` or ``RelPosMHAXL``.

    Example
    -------
    >>> layer = EBranchformerEncoderLayer(d_model=16, nhead=2, d_ffn=32)
    >>> output, attention = layer(torch.randn(3, 10, 16))
    >>> output.shape
    torch.Size([3, 10, 16])
    """

    def __init__(
        self,
        *,
        d_model: int,
        nhead: int,
        d_ffn: int,
        kernel_size: int = 31,
        dropout: float = 0.0,
        attention_type: str = "RoPEMHA",
    ) -> None:
        super().__init__()
        self.first_half = feed_forward(d_model, d_ffn, dropout)
        self.second_half = feed_forward(d_model, d_ffn, dropout)
        self.norm_attention = torch.nn.LayerNorm(d_model)
        self.mha_layer = ATTENTION[attention_type](
            num_heads=nhead, embed_dim=d_model, dropout=dropout
        )
        self.norm_convolution = torch.nn.LayerNorm(d_model)
        self.convolution_branch = PaddedBranch(
            d_model, linear_units=d_ffn, kernel_size=kernel_size, dropout=dropout
        )
        self.merge_convolution = torch.nn.Conv1d(
            2 * d_model,
            2 * d_model,
            kernel_size,
            padding=kernel_size // 2,
            groups=2 * d_model,
        )
        self.merge = torch.nn.Linear(2 * d_model, d_model)
        self.norm = torch.nn.LayerNorm(d_model)
        self.dropout = torch.nn.Dropout(dropout)

    def forward(
        self,
        x: torch.Tensor,
        src_mask: torch.Tensor | None = None,
        src_key_padding_mask: torch.Tensor | None = None,
        pos_embs: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Run the layer.

        Arguments
        ---------
        x : torch.Tensor
            (B, T, H)
        src_mask : torch.Tensor, optional
            (T, T), True where attention is forbidden.
        src_key_padding_mask : torch.Tensor, optional
            (B, T), True on padding.
        pos_embs : torch.Tensor, optional
            (1, 2T - 1, H), for ``RelPosMHAXL`` only.

        Returns
        -------
        output : torch.Tensor
            (B, T, H)
        attention : torch.Tensor or None
            Attention weights; rotary attention returns none.
        """
        x = x + 0.5 * self.first_half(x)
        query = self.norm_attention(x)
        attended, weights = self.mha_layer(
            query,
            query,
            query,
            attn_mask=src_mask,
            key_padding_mask=src_key_padding_mask,
            pos_embs=pos_embs,
        )
        gated = self.convolution_branch(self.norm_convolution(x), src_key_padding_mask)
        both = torch.cat([self.dropout(attended), self.dropout(gated)], dim=-1)
        x = x + self.dropout(self._merge(both, src_key_padding_mask))
        return self.norm(x + 0.5 * self.second_half(x)), weights

    def _merge(self, both, padding):
        if padding is not None:
            both = both.masked_fill(padding.unsqueeze(-1), 0.0)
        neighbors = self.merge_convolution(both.transpose(1, 2)).transpose(1, 2)
        return self.merge(both + neighbors)
