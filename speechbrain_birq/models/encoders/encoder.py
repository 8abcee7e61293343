"""One face for SpeechBrain's encoders: exact layers, padding, early exit, chunks."""

import torch
from speechbrain.lobes.models.transformer.Transformer import PositionalEncoding
from speechbrain.nnet.attention import RelPosEncXL
from speechbrain.utils.dynamic_chunk_training import DynChunkTrainConfig
from torch.utils.checkpoint import checkpoint

from speechbrain_birq.models.encoders.chunking import chunk_arguments
from speechbrain_birq.models.encoders.inputs import LinearInput
from speechbrain_birq.models.encoders.layers import build_layers
from speechbrain_birq.models.encoders.padded_layers import make_padding_exact
from speechbrain_birq.models.encoders.windowed_attention import (
    make_rotations,
    within_window,
)
from speechbrain_birq.models.frontend import valid_frames

# Attention that knows distances only: places in a window do as well as true ones.
STREAMS = ("RoPEMHA", "RelPosMHAXL")
UNLIMITED = 10**9  # frames, some months of speech


class SpeechBrainEncoder(torch.nn.Module):
    """A Conformer, (E-)Branchformer or Transformer over stacked frames.

    The output of an utterance depends neither on its padding nor on its batch.

    Arguments
    ---------
    kind : str
        ``conformer``, ``branchformer``, ``e_branchformer`` or ``transformer``.
    input_dim : int
        D, features of a stacked frame.
    num_layers : int
        K
    d_model : int
        H, width.
    nhead : int
        Attention heads.
    d_ffn : int
        Width of the feed-forward layers; of the convolutional gate in a Branchformer;
        of both in an E-Branchformer.
    kernel_size : int
        Of the depthwise convolution, in frames (not in a Transformer).
    dropout : float
        Everywhere.
    attention_type : str
        ``RoPEMHA`` (rotary, PyTorch's fused attention), ``RelPosMHAXL`` (2.6 times
        slower on a CPU) or ``regularMHA`` (sinusoids, at most 2,500 frames).
    attention_window : int, optional
        Frames that a frame sees, half of them on each side (``RoPEMHA`` only); all by
        default.
    activation_checkpointing : bool
        In training, keep only each layer's input and compute the layer again in the
        backward pass: the same gradients in less memory and a third more time.
    input_module : torch.nn.Module, optional
        (B, T, D), (B, T) -> (B, T, H); a linear projection by default.

    Raises
    ------
    ValueError
        If the encoder, or the pair of encoder and attention, is not supported.

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

    def __init__(
        self,
        *,
        kind,
        input_dim,
        num_layers,
        d_model,
        nhead,
        d_ffn,
        kernel_size=31,
        dropout=0.1,
        attention_type="RoPEMHA",
        attention_window=None,
        activation_checkpointing=False,
        input_module=None,
    ):
        super().__init__()
        if attention_window is not None and attention_type != "RoPEMHA":
            raise ValueError(
                f"attention_window needs attention_type RoPEMHA, not {attention_type}"
            )
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
        encoder = build_layers(
            kind,
            attention_type,
            num_layers=num_layers,
            d_model=d_model,
            nhead=nhead,
            d_ffn=d_ffn,
            kernel_size=kernel_size,
            dropout=dropout,
        )
        self.layers, self.norm = encoder.layers, encoder.norm
        make_padding_exact(self.layers)
        if attention_window is not None:
            name = "self_att" if kind == "transformer" else "mha_layer"
            for layer in self.layers:
                attention = within_window(getattr(layer, name), attention_window)
                setattr(layer, name, attention)

    @property
    def num_layers(self) -> int:
        """K"""
        return len(self.layers)

    def forward(self, frames, lengths, num_layers=None, chunk=None) -> torch.Tensor:
        """Encode.

        Arguments
        ---------
        frames : torch.Tensor
            (B, T, D)
        lengths : torch.Tensor
            (B,) int64 valid frames, at least 1 each.
        num_layers : int, optional
            k: run layers 1..k only and return layer k's output as it is. By default
            all layers run and the final normalisation follows.
        chunk : DynChunkTrainConfig, optional
            Size of a chunk in frames and number of chunks to its left that it sees; it
            sees no later one. By default every frame sees the whole utterance.

        Returns
        -------
        torch.Tensor
            (B, T, H); padding frames hold nothing of use.

        Raises
        ------
        ValueError
            If a chunk is given and the encoder cannot be run in chunks.
        """
        *_, last = self._outputs(frames, lengths, num_layers, chunk)
        return self.norm(last) if num_layers is None else last

    def hidden_states(
        self,
        frames: torch.Tensor,
        lengths: torch.Tensor,
        chunk: DynChunkTrainConfig | None = None,
    ) -> tuple[torch.Tensor, ...]:
        """Return the input projection and every layer's output: K + 1 of (B, T, H)."""
        return tuple(self._outputs(frames, lengths, None, chunk))

    def compile(self, **options) -> None:
        """``torch.compile``, so that lengths do not lead to graphs of their own."""
        if self.attention_type == "RoPEMHA":
            device = next(self.parameters()).device
            make_rotations(self.output_dim // self.nhead, device)
        super().compile(**options)

    def check_chunks(self) -> None:
        """Refuse, by name, an encoder that cannot be run in chunks.

        Raises
        ------
        ValueError
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
                f"linear input runs in chunks (parts/encoder_conformer.yaml)"
            )

    def streaming_contexts(self, chunk) -> list:
        """What each layer remembers between two calls of ``forward_streaming``.

        Arguments
        ---------
        chunk : DynChunkTrainConfig

        Returns
        -------
        list
            One blank memory a layer.

        Raises
        ------
        ValueError
            If the encoder cannot be run in chunks.
        """
        self.check_chunks()
        left = chunk.left_context_size_frames()
        left = UNLIMITED if left is None else left
        return [layer.make_streaming_context(left) for layer in self.layers]

    def forward_streaming(self, frames, contexts) -> torch.Tensor:
        """Encode the next chunk, as ``forward`` with that chunk size does.

        SpeechBrain counts places from the oldest remembered frame, not from the start
        of the utterance: the same, as only differences count (``STREAMS``).

        Arguments
        ---------
        frames : torch.Tensor
            (B, T, D), a whole chunk, or the last one of an utterance.
        contexts : list
            Of ``streaming_contexts``; changed.

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
        """Change every dropout: fine-tuning on little speech needs more of it."""
        for module in self.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = dropout
            elif isinstance(getattr(module, "dropout", None), float):
                module.dropout = dropout  # attention hands it to a function

    def last_layers(self, count: int) -> torch.nn.ModuleList:
        """The ``count`` layers next to the output, and the final normalisation."""
        return torch.nn.ModuleList([*self.layers[self.num_layers - count :], self.norm])

    def _outputs(self, frames, lengths, num_layers, chunk=None):
        valid = valid_frames(lengths, frames.shape[1])
        padding = ~valid
        states = self.input(frames, valid)
        if self.absolute_positions is not None:
            states = states + self.absolute_positions(states)
        positions = None
        if self.relative_positions is not None:
            positions = self.relative_positions(states)
        arguments = {"src_key_padding_mask": padding, "pos_embs": positions}
        if chunk is not None:
            self.check_chunks()
            arguments |= chunk_arguments(padding, chunk)
        states = self.dropout(states)
        yield states
        for layer in self.layers[:num_layers]:
            states = self._run(layer, states, arguments)
            yield states

    def _run(self, layer, states, arguments):
        if self.activation_checkpointing and self.training:
            states, _ = checkpoint(layer, states, use_reentrant=False, **arguments)
        else:
            states, _ = layer(states, **arguments)
        return states


def check_encoder(encoder) -> None:
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
