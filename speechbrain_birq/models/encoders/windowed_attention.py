"""Self-attention within a window, in memory that grows linearly with the length."""

import torch
from speechbrain.nnet.attention import RoPEMHA, _rope_rotate
from torch.nn.functional import linear, pad, scaled_dot_product_attention

LONGEST = 2**14  # frames: 5 minutes at 50 Hz


class WindowedRoPEMHA(RoPEMHA):
    """SpeechBrain's rotary attention, limited to a frame's neighbors.

    Frame t attends to the frames s with |t − s| <= window // 2. The sequence is cut
    into blocks of window // 2 queries; each block meets the keys of its own and of the
    two neighboring blocks. Parameters are those of ``RoPEMHA``.

    Arguments
    ---------
    embed_dim : int
        H
    num_heads : int
        Number of attention heads.
    dropout : float
        Dropout rate of the attention weights.
    window : int
        Total width in frames: ``window // 2`` on each side, so 200 and 201 are equal.

    Raises
    ------
    ValueError
        If the window is not a whole number, or holds no neighbor.

    Example
    -------
    >>> attention = WindowedRoPEMHA(16, 2, window=6)
    >>> states = torch.randn(2, 50, 16)
    >>> attention(states, states, states)[0].shape
    torch.Size([2, 50, 16])
    """

    def __init__(
        self, embed_dim: int, num_heads: int, dropout: float = 0.0, *, window: int
    ) -> None:
        super().__init__(embed_dim, num_heads, dropout)
        if not isinstance(window, int) or window < 2:
            raise ValueError(
                f"attention_window must be a whole number from 2, got {window}"
            )
        self.reach = window // 2

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        key_padding_mask: torch.Tensor | None = None,
        attn_mask: torch.Tensor | None = None,
        pos_embs: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attend.

        Arguments
        ---------
        query, key, value : torch.Tensor
            (B, T, H), the same states.
        key_padding_mask : torch.Tensor, optional
            (B, T) bool, True on padding.
        attn_mask, pos_embs : None
            Passed by SpeechBrain's layers.

        Returns
        -------
        tuple
            (B, T, H) and None, because attention weights are not kept.

        Raises
        ------
        ValueError
            If ``attn_mask`` is given, as by chunked training.
        """
        if attn_mask is not None:
            raise ValueError("attention_window and chunks do not go together")
        batch, time, width = query.shape
        if time <= self.reach:  # every frame sees every other
            return super().forward(query, key, value, key_padding_mask)
        padding = query.new_zeros(batch, time, dtype=torch.bool)
        padding = padding if key_padding_mask is None else key_padding_mask
        # (B, T, heads, 3 x head), SpeechBrain's layout of the joint projection.
        joint = linear(query, self.in_proj_weight).unflatten(2, (self.num_heads, -1))
        q, k, v = joint.chunk(3, dim=-1)
        blocks = -(-time // self.reach)
        mixed = scaled_dot_product_attention(
            self._blocks(_rope_rotate(q), blocks),
            self._neighbors(_rope_rotate(k), blocks),
            self._neighbors(v, blocks),
            attn_mask=self._visible(padding, blocks),
            dropout_p=self.dropout if self.training else 0.0,
            scale=self.scale,
        )
        mixed = mixed.transpose(1, 2).reshape(batch, -1, width)[:, :time]
        return self.out_proj(mixed), None

    def _blocks(self, states, blocks):
        """(B, T, heads, E) -> (B x blocks, heads, reach, E)"""
        missing = blocks * self.reach - states.shape[1]
        states = pad(states, (0, 0, 0, 0, 0, missing))
        return states.unflatten(1, (blocks, self.reach)).flatten(0, 1).transpose(1, 2)

    def _neighbors(self, states, blocks):
        """(B, T, heads, E) -> (B x blocks, heads, 3 x reach, E)"""
        missing = (blocks + 1) * self.reach - states.shape[1]
        states = pad(states, (0, 0, 0, 0, self.reach, missing))
        near = states.unfold(1, 3 * self.reach, self.reach)  # (.., heads, E, 3 r)
        # Transpose before `flatten`, which copies: fused attention needs E contiguous.
        return near.transpose(3, 4).flatten(0, 1)

    def _visible(self, padding, blocks):
        """(B x blocks, 1, reach, 3 x reach) bool: within the window, not padding."""
        missing = (blocks + 1) * self.reach - padding.shape[1]
        outside = pad(padding, (self.reach, missing), value=True)
        inside = ~outside.unfold(1, 3 * self.reach, self.reach).flatten(0, 1)
        row = torch.arange(self.reach, device=padding.device).unsqueeze(1)
        column = torch.arange(3 * self.reach, device=padding.device)
        distance = column - self.reach - row
        near = distance.abs() <= self.reach
        # A padding frame sees itself, because a softmax over nothing is NaN.
        return (inside[:, None, None] & near) | (distance == 0)


def within_window(attention: RoPEMHA, window: int) -> WindowedRoPEMHA:
    """Return the same attention, with the same weights, limited to a window."""
    windowed = WindowedRoPEMHA(
        attention.embed_dim, attention.num_heads, attention.dropout, window=window
    )
    windowed.load_state_dict(attention.state_dict())
    return windowed


def make_rotations(head_dim: int, device: torch.device) -> None:
    """Make SpeechBrain's table of rotations long enough for any utterance.

    SpeechBrain's table is as long as the longest utterance so far. Whenever it grows,
    graphs compiled with it are compiled again, and after 8 times never more.
    """
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        _rope_rotate(torch.empty(1, LONGEST, 1, head_dim, dtype=dtype, device=device))
