"""SpeechBrain's convolutional layers with the padding as an argument, for exact ends.

SpeechBrain's convolutions read frames of padding at an utterance's end, so that a
result depends on the batch. Here the padding mask is an argument of each layer, and a
convolution reads zeros there, as if the utterance were alone. Names of parameters are
SpeechBrain's.
"""

from typing import Any

import torch
from speechbrain.lobes.models.convolution import ConvolutionalSpatialGatingUnit
from speechbrain.lobes.models.transformer.Branchformer import (
    BranchformerEncoderLayer,
    ConvolutionBranch,
)
from speechbrain.lobes.models.transformer.Conformer import ConvolutionModule
from speechbrain.utils.dynamic_chunk_training import DynChunkTrainConfig
from torch.nn.functional import pad


class PaddedConvolution(ConvolutionModule):
    """The convolution module of a Conformer layer, blind to padding.

    Example
    -------
    >>> convolution = PaddedConvolution(8, kernel_size=5)
    >>> states, padding = torch.randn(1, 4, 8), torch.zeros(1, 4, 1, dtype=torch.bool)
    >>> padding[:, 3] = True
    >>> alone = convolution(states[:, :3])
    >>> torch.allclose(convolution(states, padding)[:, :3], alone, atol=1e-6)
    True
    """

    def forward(
        self,
        x: torch.Tensor,
        mask: torch.Tensor | None = None,
        dynchunktrain_config: DynChunkTrainConfig | None = None,
    ) -> torch.Tensor:
        """Convolve over time.

        Arguments
        ---------
        x : torch.Tensor
            (B, T, H)
        mask : torch.Tensor, optional
            (B, T, 1) bool, True on padding.
        dynchunktrain_config : DynChunkTrainConfig, optional
            Chunks; a frame sees nothing behind the end of its own.

        Returns
        -------
        torch.Tensor
            (B, T, H)
        """
        states = self.bottleneck(self.layer_norm(x).transpose(1, 2))
        if mask is not None:
            states = states.masked_fill(mask.transpose(1, 2), 0.0)
        if dynchunktrain_config is None:
            states = self.conv(states)
        else:
            states = self._within_chunks(states, dynchunktrain_config.chunk_size)
        return self.after_conv(states.transpose(1, 2))

    def _within_chunks(self, states, size):
        """(B, H, T) -> (B, H, T)"""
        batch, _, time = states.shape
        states = pad(states, (self.padding, -time % size))
        # (B, H, chunks, left + size + right): what lies to the right of a chunk is 0.
        chunks = states.unfold(2, size + self.padding, size)
        chunks = pad(chunks, (0, self.padding)).transpose(1, 2).flatten(0, 1)
        convolved = torch.nn.functional.conv1d(
            chunks, self.conv.weight, self.conv.bias, groups=self.conv.groups
        )
        return (
            convolved.unflatten(0, (batch, -1)).transpose(1, 2).flatten(2)[..., :time]
        )


class PaddedGate(ConvolutionalSpatialGatingUnit):
    """The gating unit of a Branchformer's convolutional branch, blind to padding.

    Outside an utterance the convolution reads zeros; SpeechBrain's mirrors the last
    frames, and fails where there are too few of them.

    Example
    -------
    >>> PaddedGate(input_size=8, kernel_size=5)(torch.randn(1, 2, 8)).shape
    torch.Size([1, 2, 4])
    """

    def forward(
        self, x: torch.Tensor, padding: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Gate one half of the channels with the other: (B, T, C) -> (B, T, C / 2).

        ``padding`` is (B, T) bool, True on padding.
        """
        kept, gate = x.chunk(2, dim=-1)
        gate = self.norm(gate)
        if padding is not None:
            gate = gate.masked_fill(padding.unsqueeze(-1), 0.0)
        convolution = self.conv.conv
        half = convolution.kernel_size[0] // 2
        gate = convolution(pad(gate.transpose(1, 2), (half, half))).transpose(1, 2)
        return self.dropout(self.activation(gate) * kept)


class PaddedBranch(ConvolutionBranch):
    """The convolutional branch of a Branchformer layer, which ignores padding."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.csgu.__class__ = PaddedGate

    def forward(
        self, x: torch.Tensor, padding: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Mix neighboring frames: (B, T, H) and the padding (B, T) -> (B, T, H)."""
        gated = self.csgu(self.activation(self.pre_channel_proj(x)), padding)
        return self.post_channel_proj(gated)


class PaddedBranchformerLayer(BranchformerEncoderLayer):
    """A Branchformer layer that hands its padding on to the convolutional branch."""

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
            (B, T) bool, True on padding.
        pos_embs : torch.Tensor, optional
            (1, 2T - 1, H), for ``RelPosMHAXL`` only.

        Returns
        -------
        output : torch.Tensor
            (B, T, H)
        attention : torch.Tensor or None
            Attention weights.
        """
        query = self.norm_mhsa(x)
        attended, weights = self.mha_layer(
            query,
            query,
            query,
            attn_mask=src_mask,
            key_padding_mask=src_key_padding_mask,
            pos_embs=pos_embs,
        )
        gated = self.convolution_branch(self.norm_conv(x), src_key_padding_mask)
        both = torch.cat([self.dropout(attended), self.dropout(gated)], dim=-1)
        return x + self.dropout(self.merge_proj(both)), weights


PADDED: dict[type[torch.nn.Module], type[torch.nn.Module]] = {
    ConvolutionModule: PaddedConvolution,
    ConvolutionalSpatialGatingUnit: PaddedGate,
    ConvolutionBranch: PaddedBranch,
    BranchformerEncoderLayer: PaddedBranchformerLayer,
}


def make_padding_exact(layers: torch.nn.Module) -> None:
    """Turn SpeechBrain's convolutional layers, wherever inside, into those above.

    A subclass adds no state, so the class alone is exchanged: parameters, their names
    and the random numbers that made them stay what they are.

    Example
    -------
    >>> layer = BranchformerEncoderLayer(d_model=8, nhead=2, csgu_linear_units=8)
    >>> make_padding_exact(layer)
    >>> type(layer).__name__, type(layer.convolution_branch.csgu).__name__
    ('PaddedBranchformerLayer', 'PaddedGate')
    """
    for module in layers.modules():
        if type(module) in PADDED:
            module.__class__ = PADDED[type(module)]
