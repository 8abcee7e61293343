"""Chunks: what a frame may see before the utterance has ended."""

from typing import Any

import torch
from speechbrain.core import Stage
from speechbrain.lobes.models.transformer.TransformerASR import (
    make_transformer_src_mask,
)
from speechbrain.utils.dynamic_chunk_training import (
    DynChunkTrainConfig,
    DynChunkTrainConfigRandomSampler,
)

from speechbrain_birq.models.encoders.interface import Encoder
from speechbrain_birq.models.frontend import FrontEnd


def make_chunk(size: int, left: int | None = None) -> DynChunkTrainConfig:
    """Describe chunks of a size and the number of chunks that they see to their left.

    Arguments
    ---------
    size : int
        Number of stacked frames in a chunk.
    left : int, optional
        Number of chunks to the left; all by default.

    Raises
    ------
    ValueError
        If ``size`` is below 1 or ``left`` is negative.

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


def check_chunks(frontend: FrontEnd, encoder: Any) -> None:
    """Refuse parts that cannot work chunk by chunk.

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


def chunk_arguments(padding: torch.Tensor, chunk: DynChunkTrainConfig) -> dict:
    """Return the arguments that restrict a ConformerEncoderLayer to chunks.

    Arguments
    ---------
    padding : torch.Tensor
        (B, T) bool, True on padding.
    chunk : DynChunkTrainConfig
        Size of a chunk, and the number of chunks to its left that it sees.

    Returns
    -------
    dict
        ``src_mask`` (T, T) bool, True where attention is forbidden,
        ``src_key_padding_mask`` (B, T) bool and ``dynchunktrain_config``.
    """
    size = chunk.chunk_size
    valid_chunks = -(-(~padding).sum(1, keepdim=True) // size)
    position = torch.arange(padding.shape[1], device=padding.device)
    return {
        "src_mask": make_transformer_src_mask(padding, dynchunktrain_config=chunk),
        # Chunks that hold nothing but padding see themselves, because a softmax over
        # nothing is NaN. No other chunk sees them.
        "src_key_padding_mask": padding & (position < valid_chunks * size),
        "dynchunktrain_config": chunk,
    }


class ChunkSampler:
    """Draws the chunk of a training batch: SpeechBrain's dynamic chunk training.

    It draws from torch's global generator, whose state is in the checkpoint.

    Arguments
    ---------
    chunk_prob : float
        Probability that a batch is encoded in chunks; the others see whole utterances.
        If it is 0, nothing is drawn.
    chunk_min, chunk_max : int
        Smallest and largest number of stacked frames in a chunk, drawn uniformly.
    left_chunks_prob : float
        Probability that the number of chunks to the left is limited, given chunks.
    left_chunks_min, left_chunks_max : int
        Smallest and largest limit, drawn uniformly.

    Raises
    ------
    ValueError
        If a range is empty or a probability is not in [0, 1].

    Example
    -------
    >>> sample = ChunkSampler(chunk_prob=1.0, chunk_min=8, chunk_max=8)
    >>> sample()
    DynChunkTrainConfig(chunk_size=8, left_context_size=None)
    """

    def __init__(
        self,
        *,
        chunk_prob: float,
        chunk_min: int = 8,
        chunk_max: int = 32,
        left_chunks_prob: float = 0.0,
        left_chunks_min: int = 0,
        left_chunks_max: int = 0,
    ) -> None:
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

    def check(self, frontend: FrontEnd, encoder: Encoder) -> None:
        """Run ``check_chunks`` if chunks will be drawn."""
        if self.active:
            check_chunks(frontend, encoder)

    def __call__(self) -> DynChunkTrainConfig | None:
        """Draw the chunk of the next batch; None means whole utterances."""
        return self.sampler(Stage.TRAIN) if self.active else None
