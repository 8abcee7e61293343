"""The paper's encoder, as far as its counts of parameters tell: a block Conformer.

The paper (arXiv 2509.15430) names 137, 155 and 275 M parameters and an attention window
of 200. A Conformer like that of Granite-speech (arXiv 2505.08699, the same laboratory)
has exactly these counts: attention within blocks of 200 frames with Shaw's relative
positions, kernel 15, expansion 2, batch normalization, a closing LayerNorm.
"""

from typing import Any

import torch
from torch.nn.functional import pad, scaled_dot_product_attention

from speechbrain_birq.config.keys import COUNT
from speechbrain_birq.models.encoders.feed_forward import feed_forward
from speechbrain_birq.models.encoders.valid_batch_norm import ValidBatchNorm

MAX_DISTANCE = 512  # frames; relative positions beyond share one vector
EXPANSION = 2  # of the channels in the convolution module


class BlockAttention(torch.nn.Module):
    """Attention of a frame to its block of frames, with Shaw's relative positions.

    Weight of frame s for frame t: softmax of qₜ · (kₛ + r₍ₜ₋ₛ₎) / √d over the valid
    frames s of the block of t (Shaw et al., arXiv 1803.02155, keys only).

    Arguments
    ---------
    d_model : int
        H
    nhead : int
        Attention heads.
    block : int, optional
        Frames of a block; by default an utterance is one block.
    dropout : float
        Dropout rate of the output.

    Raises
    ------
    ValueError
        If a block has no frame.

    Example
    -------
    >>> attention = BlockAttention(d_model=8, nhead=2, block=3)
    >>> attention(torch.randn(2, 7, 8), torch.ones(2, 7, dtype=torch.bool)).shape
    torch.Size([2, 7, 8])
    """

    def __init__(
        self,
        *,
        d_model: int,
        nhead: int,
        block: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if block is not None:
            COUNT.check("BlockAttention", attention_window=block)
        self.nhead, self.block = nhead, block
        self.norm = torch.nn.LayerNorm(d_model)
        self.query = torch.nn.Linear(d_model, d_model, bias=False)
        self.key_value = torch.nn.Linear(d_model, 2 * d_model, bias=False)
        self.distances = torch.nn.Embedding(2 * MAX_DISTANCE + 1, d_model // nhead)
        self.output = torch.nn.Linear(d_model, d_model)
        self.dropout = torch.nn.Dropout(dropout)

    def forward(self, states: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        """Attend: (B, T, H) and (B, T) bool, True on frames that exist -> (B, T, H)."""
        batch, time, _ = states.shape
        block = min(self.block or time, time)
        normed = pad(self.norm(states), (0, 0, 0, -time % block))
        query, key, value = (
            self._heads(projected, block)
            for projected in (self.query(normed), *self.key_value(normed).chunk(2, -1))
        )
        scale = query.shape[-1] ** -0.5
        bias = by_place(query @ self._vectors(block).T) * scale
        hidden = self._out_of_sight(valid, block)
        bias = bias.masked_fill(hidden[:, None, None], -torch.inf)
        attended = scaled_dot_product_attention(
            query, key, value, attn_mask=bias, scale=scale
        )
        attended = attended.transpose(1, 2).reshape(batch, -1, states.shape[-1])
        return self.dropout(self.output(attended[:, :time]))

    def _heads(self, projected, block):
        """(B, T, H) -> (B * blocks, heads, block, H / heads)"""
        return projected.reshape(
            -1, block, self.nhead, projected.shape[-1] // self.nhead
        ).transpose(1, 2)

    def _vectors(self, block):
        """(2 block - 1, H / heads) vectors of the distances t - s, largest first."""
        weight = self.distances.weight
        distance = torch.arange(block - 1, -block, -1, device=weight.device)
        return self.distances(
            distance.clamp(-MAX_DISTANCE, MAX_DISTANCE) + MAX_DISTANCE
        )

    def _out_of_sight(self, valid, block):
        """(B * blocks, block) frames that nobody attends to."""
        blocks = pad(valid, (0, -valid.shape[1] % block)).reshape(-1, block)
        # A block of padding alone sees itself: softmax over nothing would be NaN.
        return ~blocks & blocks.any(1, keepdim=True)


def by_place(scores: torch.Tensor) -> torch.Tensor:
    """Turn scores of frame t by distance t - s into scores by place s.

    A gather of T x T vectors would take T x T x H numbers; this takes none.

    Arguments
    ---------
    scores : torch.Tensor
        (..., T, 2T - 1), distances t - s from T - 1 down to 1 - T.

    Returns
    -------
    torch.Tensor
        (..., T, T)

    Example
    -------
    >>> by_place(torch.tensor([[1, 0, -1], [1, 0, -1]]))
    tensor([[ 0, -1],
            [ 1,  0]])
    """
    time = scores.shape[-2]
    # With one column more, each row begins one place later in the flat order.
    flat = pad(scores, (0, 1)).flatten(-2)[..., time - 1 :]
    return flat[..., : time * (2 * time - 1)].unflatten(-1, (time, -1))[..., :time]


class ConvolutionModule(torch.nn.Module):
    """Pointwise, gated linear unit, depthwise, batch normalization, pointwise.

    Arguments
    ---------
    d_model : int
        H; the depthwise convolution has ``EXPANSION`` times as many channels.
    kernel_size : int
        Frames of the depthwise convolution; odd.
    dropout : float
        Dropout rate of the output.

    Example
    -------
    >>> convolution = ConvolutionModule(d_model=8, kernel_size=5)
    >>> convolution(torch.randn(2, 7, 8), torch.ones(2, 7, dtype=torch.bool)).shape
    torch.Size([2, 7, 8])
    """

    def __init__(self, *, d_model: int, kernel_size: int, dropout: float = 0.0) -> None:
        super().__init__()
        inner = EXPANSION * d_model
        self.norm = torch.nn.LayerNorm(d_model)
        self.expand = torch.nn.Linear(d_model, 2 * inner)
        self.depthwise = torch.nn.Conv1d(
            inner,
            inner,
            kernel_size,
            padding=kernel_size // 2,
            groups=inner,
            bias=False,
        )
        self.batch_norm = ValidBatchNorm(inner)
        self.contract = torch.nn.Linear(inner, d_model)
        self.dropout = torch.nn.Dropout(dropout)

    def forward(self, states: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        """Convolve over time: (B, T, H) and (B, T) bool -> (B, T, H)."""
        gated = torch.nn.functional.glu(self.expand(self.norm(states)))
        gated = gated.masked_fill(~valid.unsqueeze(-1), 0.0)
        convolved = self.depthwise(gated.transpose(1, 2)).transpose(1, 2)
        normed = self.batch_norm(convolved, valid)
        return self.dropout(self.contract(torch.nn.functional.silu(normed)))


class BlockConformerLayer(torch.nn.Module):
    """Half feed-forward, attention, convolution, half feed-forward, LayerNorm.

    Arguments
    ---------
    d_model : int
        H
    nhead : int
        Attention heads.
    d_ffn : int
        Width of the feed-forward layers.
    kernel_size : int
        Frames of the depthwise convolution; odd.
    block : int, optional
        Frames of a block of attention, at the encoder's rate (200 frames of 20 ms are
        4 s); by default an utterance is one block.
    dropout : float
        Dropout rate everywhere.

    Raises
    ------
    ValueError
        If a block has no frame.

    Example
    -------
    >>> layer = BlockConformerLayer(d_model=8, nhead=2, d_ffn=32, kernel_size=5)
    >>> padding = torch.zeros(2, 7, dtype=torch.bool)
    >>> layer(torch.randn(2, 7, 8), padding)[0].shape
    torch.Size([2, 7, 8])
    """

    def __init__(
        self,
        *,
        d_model: int,
        nhead: int,
        d_ffn: int,
        kernel_size: int = 15,
        block: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.first = feed_forward(d_model, d_ffn, dropout)
        self.attention = BlockAttention(
            d_model=d_model, nhead=nhead, block=block, dropout=dropout
        )
        self.convolution = ConvolutionModule(
            d_model=d_model, kernel_size=kernel_size, dropout=dropout
        )
        self.second = feed_forward(d_model, d_ffn, dropout)
        self.norm = torch.nn.LayerNorm(d_model)

    def forward(
        self,
        states: torch.Tensor,
        src_key_padding_mask: torch.Tensor,
        pos_embs: None = None,
    ) -> tuple[torch.Tensor, None]:
        """Run the layer, as SpeechBrain's layers are run.

        Arguments
        ---------
        states : torch.Tensor
            (B, T, H)
        src_key_padding_mask : torch.Tensor
            (B, T) bool, True on padding.
        pos_embs : None
            Not used: the attention has relative positions of its own.

        Returns
        -------
        output : torch.Tensor
            (B, T, H)
        attention : None
            Attention weights are not kept.
        """
        valid = ~src_key_padding_mask
        states = states + 0.5 * self.first(states)
        states = states + self.attention(states, valid)
        states = states + self.convolution(states, valid)
        states = states + 0.5 * self.second(states)
        return self.norm(states), None


class BlockConformerEncoder(torch.nn.Module):
    """Layers of a block Conformer; each ends with a LayerNorm, so none follows.

    Arguments
    ---------
    num_layers : int
        K
    **sizes
        Arguments of ``BlockConformerLayer``; ``block`` is in frames.

    Example
    -------
    >>> sizes = dict(d_model=8, nhead=2, d_ffn=32, kernel_size=5, block=200)
    >>> encoder = BlockConformerEncoder(num_layers=2, **sizes)
    >>> len(encoder.layers), encoder.layers[0].attention.block
    (2, 200)
    """

    def __init__(self, *, num_layers: int, **sizes: Any) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(
            BlockConformerLayer(**sizes) for _ in range(num_layers)
        )
        self.norm = torch.nn.Identity()
