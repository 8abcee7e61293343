"""Chunks: what a frame may see when the utterance is not over yet."""

import torch
from speechbrain.core import Stage
from speechbrain.lobes.models.transformer.TransformerASR import (
    make_transformer_src_mask,
)
from speechbrain.utils.dynamic_chunk_training import (
    DynChunkTrainConfig,
    DynChunkTrainConfigRandomSampler,
)


def make_chunk(size, left=None) -> DynChunkTrainConfig:
    """A chunk of so many frames that sees so many chunks to its left.

    Arguments
    ---------
    size : int
        Stacked frames.
    left : int, optional
        Chunks; all of them by default.

    Raises
    ------
    ValueError
        If there is no such chunk.

    Example
    -------
    >>> make_chunk(8, left=4)
    DynChunkTrainConfig(chunk_size=8, left_context_size=4)
    """
    if size < 1:
        raise ValueError(f"a chunk has at least 1 frame, got {size}")
    if left is not None and left < 0:
        raise ValueError(f"a chunk sees 0 or more chunks to its left, got {left}")
    return DynChunkTrainConfig(size, left)


def check_chunks(frontend, encoder) -> None:
    """Refuse parts that cannot work chunk by chunk.

    Arguments
    ---------
    frontend : FrontEnd
    encoder : torch.nn.Module

    Raises
    ------
    ValueError
        Naming the part.
    """
    if frontend.normalize != "global":
        raise ValueError(
            f"chunks need normalize: global, the front end has normalize: "
            f"{frontend.normalize}, which waits for the end of the utterance"
        )
    if not hasattr(encoder, "check_chunks"):
        raise ValueError(f"{type(encoder).__name__} does not run in chunks")
    encoder.check_chunks()


def chunk_arguments(padding: torch.Tensor, chunk) -> dict:
    """What a ConformerEncoderLayer takes to keep to its chunks.

    Arguments
    ---------
    padding : torch.Tensor
        (B, T) bool, True on padding.
    chunk : DynChunkTrainConfig

    Returns
    -------
    dict
    """
    size = chunk.chunk_size
    valid_chunks = -(-(~padding).sum(1, keepdim=True) // size)
    place = torch.arange(padding.shape[1], device=padding.device)
    return {
        "src_mask": make_transformer_src_mask(padding, dynchunktrain_config=chunk),
        # Chunks of padding alone see themselves: no other chunk sees them, and softmax
        # over nothing at all would be NaN.
        "src_key_padding_mask": padding & (place < valid_chunks * size),
        "dynchunktrain_config": chunk,
    }


class ChunkSampler:
    """Draws the chunk of a training batch: SpeechBrain's dynamic chunk training.

    Draws from torch's generator, whose state is in the checkpoint.

    Arguments
    ---------
    chunk_prob : float
        Of a batch to be encoded in chunks; the others see whole utterances. 0: never,
        and nothing is drawn.
    chunk_min, chunk_max : int
        Stacked frames of a chunk, drawn evenly.
    left_chunks_prob : float
        Of a chunk to see only so many chunks to its left; otherwise it sees all.
    left_chunks_min, left_chunks_max : int
        Their number, drawn evenly.

    Raises
    ------
    ValueError
        If a range is empty or a probability is none.

    Example
    -------
    >>> sample = ChunkSampler(chunk_prob=1.0, chunk_min=8, chunk_max=8)
    >>> sample()
    DynChunkTrainConfig(chunk_size=8, left_context_size=None)
    """

    def __init__(
        self,
        *,
        chunk_prob,
        chunk_min=8,
        chunk_max=32,
        left_chunks_prob=0.0,
        left_chunks_min=0,
        left_chunks_max=0,
    ):
        for name, value in (
            ("chunk_prob", chunk_prob),
            ("left_chunks_prob", left_chunks_prob),
        ):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must lie between 0 and 1, got {value}")
        for name, low, high in (
            ("chunk", chunk_min, chunk_max),
            ("left_chunks", left_chunks_min, left_chunks_max),
        ):
            if low > high:
                raise ValueError(f"{name}_min {low} is above {name}_max {high}")
        make_chunk(chunk_min, left_chunks_min)
        self.active = chunk_prob > 0
        self.sampler = DynChunkTrainConfigRandomSampler(
            chunkwise_prob=chunk_prob,
            chunk_size_min=chunk_min,
            chunk_size_max=chunk_max,
            limited_left_context_prob=left_chunks_prob,
            left_context_chunks_min=left_chunks_min,
            left_context_chunks_max=left_chunks_max,
        )

    def check(self, frontend, encoder) -> None:
        """``check_chunks``, if any chunk will ever be drawn."""
        if self.active:
            check_chunks(frontend, encoder)

    def __call__(self) -> DynChunkTrainConfig | None:
        """The next batch's chunk; None: whole utterances."""
        return self.sampler(Stage.TRAIN) if self.active else None
