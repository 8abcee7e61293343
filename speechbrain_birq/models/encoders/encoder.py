"""SpeechBrain's encoders behind one interface: padding, early exit, chunks."""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from speechbrain.lobes.models.transformer.Conformer import (
    ConformerEncoderLayerStreamingContext,
)
from speechbrain.lobes.models.transformer.Transformer import PositionalEncoding
from speechbrain.nnet.attention import RelPosEncXL
from speechbrain.utils.dynamic_chunk_training import DynChunkTrainConfig
from torch.utils.checkpoint import checkpoint

from speechbrain_birq.config.keys import COUNT, LAYERS_AGAIN, SHARE_BELOW_1
from speechbrain_birq.models.encoders.chunking import chunk_arguments
from speechbrain_birq.models.encoders.inputs import LinearInput
from speechbrain_birq.models.encoders.layers import build_layers, default_attention
from speechbrain_birq.models.encoders.padded_layers import make_padding_exact
from speechbrain_birq.models.encoders.valid_batch_norm import (
    checkpoint_contexts,
    has_batch_norm,
)
from speechbrain_birq.models.encoders.windowed_attention import make_rotations
from speechbrain_birq.models.frontend import valid_frames

# Attention that depends on differences of positions only, so that positions may be
# counted from the start of a window.
STREAMS = ("RoPEMHA", "RelPosMHAXL")
UNLIMITED = 10**9  # frames, some months of speech


class SpeechBrainEncoder(torch.nn.Module):
    """A Conformer, (E-)Branchformer or Transformer over stacked frames.

    The output of an utterance depends neither on its padding, nor on its batch, nor on
    earlier calls.

    Arguments
    ---------
    kind : str
        ``conformer``, ``branchformer``, ``e_branchformer``, ``transformer``, or
        ``block_conformer``, probably the paper's: see ``BlockConformerLayer``.
    input_dim : int
        D
    num_layers : int
        K
    d_model : int
        H
    nhead : int
        Number of attention heads.
    d_ffn : int
        Width of the feed-forward layers; in a Branchformer, of the convolutional gate;
        in an E-Branchformer, of both.
    kernel_size : int
        Width of the depthwise convolution in frames; a Transformer has none.
    dropout : float
        Dropout rate of all layers.
    attention_type : str, optional
        ``RoPEMHA`` (rotary, PyTorch's fused attention; the default), ``RelPosMHAXL``
        (2.6 times slower on a CPU) or ``regularMHA`` (sinusoids);
        a ``block_conformer`` has ``ShawMHA``.
    attention_window : int, optional
        Number of frames that a frame attends to, half of them on each side
        (``RoPEMHA``), or those of its block (``ShawMHA``); all by default.
    activation_checkpointing : bool or int
        n: training keeps only the input of every n-th layer and computes that layer
        again in the backward pass, for the same gradients in less memory. True: every
        layer; False or 0: none.
    input_module : torch.nn.Module, optional
        (B, T, D), (B, T) -> (B, T, H); a linear projection by default.

    Raises
    ------
    ValueError
        If a size is none, or the encoder or the pair of encoder and attention is not
        supported.

    Example
    -------
    >>> encoder = SpeechBrainEncoder(
    ...     kind="conformer", input_dim=160, num_layers=3, d_model=32, nhead=4, d_ffn=64
    ... )
    >>> frames, lengths = torch.randn(2, 20, 160), torch.tensor([20, 9])
    >>> encoder(frames, lengths).shape
    torch.Size([2, 20, 32])
    >>> len(encoder.hidden_states(frames, lengths))
    4
    """

    layers: Any  # torch.nn.ModuleList; SpeechBrain's layers come without types

    def __init__(
        self,
        *,
        kind: str,
        input_dim: int,
        num_layers: int,
        d_model: int,
        nhead: int,
        d_ffn: int,
        kernel_size: int = 31,
        dropout: float = 0.1,
        attention_type: str | None = None,
        attention_window: int | None = None,
        activation_checkpointing: bool | int = False,
        input_module: torch.nn.Module | None = None,
    ) -> None:
        super().__init__()
        COUNT.check("the encoder", input_dim=input_dim, d_model=d_model)
        SHARE_BELOW_1.check("the encoder", dropout=dropout)
        again = activation_checkpointing
        LAYERS_AGAIN.check("the encoder", activation_checkpointing=again)
        attention_type = attention_type or default_attention(kind)
        self.kind, self.attention_type = kind, attention_type
        self.attention_window = attention_window
        self.activation_checkpointing = activation_checkpointing
        self.input_dim, self.output_dim, self.nhead = input_dim, d_model, nhead
        self.input = input_module or LinearInput(input_dim=input_dim, d_model=d_model)
        self.dropout = torch.nn.Dropout(dropout)
        self.relative_positions = self.absolute_positions = None
        if attention_type == "RelPosMHAXL":
            self.relative_positions = RelPosEncXL(d_model)
        if attention_type == "regularMHA":
            self.absolute_positions = PositionalEncoding(d_model)
        self.layers, self.norm = build_layers(
            kind,
            attention_type,
            num_layers=num_layers,
            d_model=d_model,
            nhead=nhead,
            d_ffn=d_ffn,
            kernel_size=kernel_size,
            attention_window=attention_window,
            dropout=dropout,
        )
        make_padding_exact(self.layers)
        # Of layers computed again: only where they are needed, they cannot be compiled.
        needed = has_batch_norm(self.layers)
        self._contexts = {"context_fn": checkpoint_contexts} if needed else {}

    @property
    def num_layers(self) -> int:
        """K"""
        return len(self.layers)

    def forward(
        self,
        frames: torch.Tensor,
        lengths: torch.Tensor,
        num_layers: int | None = None,
        chunk: DynChunkTrainConfig | None = None,
    ) -> torch.Tensor:
        """Encode.

        Arguments
        ---------
        frames : torch.Tensor
            (B, T, D)
        lengths : torch.Tensor
            (B,) int64 valid frames, at least 1 each.
        num_layers : int, optional
            k: run layers 1..k only and return layer k's output as it is. By default
            all layers run and the final normalization follows.
        chunk : DynChunkTrainConfig, optional
            Size of a chunk in frames, and number of chunks to its left that it sees. No
            chunk sees a later one. By default every frame sees the whole utterance.

        Returns
        -------
        torch.Tensor
            (B, T, H); its values on padding are undefined.

        Raises
        ------
        ValueError
            If a chunk is given and the encoder cannot be run in chunks.
        """
        # Not *_, last = ...: that would hold the outputs of all layers in memory.
        (last,) = deque(self._outputs(frames, lengths, num_layers, chunk), maxlen=1)
        return self.norm(last) if num_layers is None else last

    def hidden_states(
        self,
        frames: torch.Tensor,
        lengths: torch.Tensor,
        chunk: DynChunkTrainConfig | None = None,
    ) -> tuple[torch.Tensor, ...]:
        """Return the input projection and every layer's output: K + 1 of (B, T, H)."""
        return tuple(self._outputs(frames, lengths, None, chunk))

    def compile(self, **options: Any) -> None:
        """Compile with ``torch.compile``, one graph for all lengths."""
        if self.attention_type == "RoPEMHA":
            device = next(self.parameters()).device
            make_rotations(self.output_dim // self.nhead, device)
        super().compile(**options)

    def check_chunks(self) -> None:
        """Refuse an encoder that cannot be run in chunks.

        Raises
        ------
        ValueError
            Naming the part that cannot.
        """
        if self.kind != "conformer":
            raise ValueError(f"only a conformer runs in chunks, not a {self.kind}")
        if self.attention_type not in STREAMS:
            raise ValueError(
                f"attention_type {self.attention_type!r} does not run in chunks: "
                f"take one of {', '.join(STREAMS)}"
            )
        if self.attention_window is not None:
            raise ValueError("attention_window and chunks do not go together")
        if not isinstance(self.input, LinearInput):
            raise ValueError(
                f"{type(self.input).__name__} looks into the next chunk: only the "
                f"linear input runs in chunks (leave input_module out)"
            )

    def streaming_contexts(
        self, chunk: DynChunkTrainConfig
    ) -> list[ConformerEncoderLayerStreamingContext]:
        """Return what each layer remembers between calls of ``forward_streaming``.

        Raises
        ------
        ValueError
            If the encoder cannot be run in chunks.
        """
        self.check_chunks()
        left = chunk.left_context_size_frames()
        left = UNLIMITED if left is None else left
        return [layer.make_streaming_context(left) for layer in self.layers]

    def forward_streaming(
        self,
        frames: torch.Tensor,
        contexts: Sequence[ConformerEncoderLayerStreamingContext],
    ) -> torch.Tensor:
        """Encode the next chunk; the result is that of ``forward`` with this chunk.

        SpeechBrain counts positions from the oldest remembered frame, not from the
        start of the utterance. That is the same, because only differences of positions
        count (``STREAMS``).

        Arguments
        ---------
        frames : torch.Tensor
            (B, T, D), a complete chunk, or the last one of an utterance.
        contexts : sequence
            From ``streaming_contexts``; updated in place.

        Returns
        -------
        torch.Tensor
            (B, T, H)
        """
        valid = frames.new_ones(frames.shape[:2], dtype=torch.bool)
        states = self.input(frames, valid)
        for layer, context in zip(self.layers, contexts, strict=True):
            positions = None
            if self.relative_positions is not None:
                left = context.mha_left_context
                window = states.shape[1] + (0 if left is None else left.shape[1])
                positions = self.relative_positions.make_pe(window)
            states, _ = layer.forward_streaming(states, context, positions)
        return self.norm(states)

    def set_dropout(self, dropout: float) -> None:
        """Change all dropout rates: fine-tuning on little speech needs more of it."""
        for module in self.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = dropout
            elif isinstance(getattr(module, "dropout", None), int | float):
                # Attention keeps the rate and passes it to a function.
                setattr(module, "dropout", dropout)  # noqa: B010 (typed as a module)

    def _absolute(self, states):
        table = self.absolute_positions
        if states.shape[1] > table.max_len:  # SpeechBrain's ends there
            longer = PositionalEncoding(states.shape[2], states.shape[1])
            table = longer.to(table.pe)
        return table(states)

    def last_layers(self, count: int) -> torch.nn.ModuleList:
        """Return the ``count`` last layers and the final normalization."""
        return torch.nn.ModuleList([*self.layers[self.num_layers - count :], self.norm])

    def _outputs(
        self,
        frames: torch.Tensor,
        lengths: torch.Tensor,
        num_layers: int | None,
        chunk: DynChunkTrainConfig | None = None,
    ) -> Iterator[torch.Tensor]:
        valid = valid_frames(lengths, frames.shape[1])
        padding = ~valid
        states = self.input(frames, valid)
        if self.absolute_positions is not None:
            states = states + self._absolute(states)
        positions = None
        if self.relative_positions is not None:
            positions = self.relative_positions(states)
        arguments: dict[str, Any] = {
            "src_key_padding_mask": padding,
            "pos_embs": positions,
        }
        if chunk is not None:
            self.check_chunks()
            arguments |= chunk_arguments(padding, chunk)
        states = self.dropout(states)
        yield states
        every = int(self.activation_checkpointing) if self.training else 0
        for number, layer in enumerate(self.layers[:num_layers]):
            again = every > 0 and number % every == 0
            states = self._run(layer, states, arguments, again)
            yield states

    def _run(self, layer, states, arguments, again):
        if again:
            states, _ = checkpoint(
                layer, states, use_reentrant=False, **self._contexts, **arguments
            )
        else:
            states, _ = layer(states, **arguments)
        return states
