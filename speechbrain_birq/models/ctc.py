"""Encoder and linear CTC layer: the recogniser that fine-tuning trains."""

from typing import NamedTuple

import torch
from speechbrain.utils.dynamic_chunk_training import DynChunkTrainConfig

from speechbrain_birq.models.encoders.chunking import ChunkSampler
from speechbrain_birq.models.encoders.interface import Encoder, check_encoder
from speechbrain_birq.models.frontend import FrontEnd


class CTCOutput(NamedTuple):
    """Log probabilities of the tokens, and the number of valid frames."""

    log_probs: torch.Tensor  # (B, T, V) float32
    lengths: torch.Tensor  # (B,) int64


class CTCModel(torch.nn.Module):
    """Front end, encoder, linear layer, log softmax.

    Arguments
    ---------
    frontend : FrontEnd
        The front end of pretraining, unchanged.
    encoder : Encoder
        Pretrained encoder, see ``docs/encoders.md``.
    num_tokens : int
        V, the blank (0) included.
    augment : torch.nn.Module, optional
        Changes the frames in training, as ``SpecAugment`` does.
    dropout : float
        Dropout before the linear layer.
    chunking : ChunkSampler, optional
        Draws the chunks in which training encodes; evaluation uses those that are
        passed to ``forward``.

    Raises
    ------
    ValueError
        If the encoder lacks a needed method, or front end or encoder cannot work in
        chunks and ``chunking`` draws some.

    Example
    -------
    >>> from speechbrain_birq.models.encoders.encoder import SpeechBrainEncoder
    >>> frontend = FrontEnd(stack=4)
    >>> encoder = SpeechBrainEncoder(
    ...     kind="conformer", input_dim=320, num_layers=1, d_model=16, nhead=2, d_ffn=32
    ... )
    >>> model = CTCModel(frontend=frontend, encoder=encoder, num_tokens=30)
    >>> output = model(torch.randn(2, 16000), torch.ones(2))
    >>> output.log_probs.shape, output.lengths.tolist()
    (torch.Size([2, 25, 30]), [25, 25])
    """

    def __init__(
        self,
        *,
        frontend: FrontEnd,
        encoder: Encoder,
        num_tokens: int,
        augment: torch.nn.Module | None = None,
        dropout: float = 0.0,
        chunking: ChunkSampler | None = None,
    ) -> None:
        super().__init__()
        check_encoder(encoder)
        if chunking is not None:
            chunking.check(frontend, encoder)
        self.chunking = chunking
        self.frontend, self.encoder, self.augment = frontend, encoder, augment
        self.dropout = torch.nn.Dropout(dropout)
        self.head: torch.nn.Module = torch.nn.Linear(encoder.output_dim, num_tokens)
        self.frozen = False

    def freeze_encoder(self, frozen: bool) -> None:
        """Freeze the encoder (no gradient, no dropout), or let it learn again."""
        self.frozen = frozen
        self.train(self.training)

    def train(self, mode: bool = True) -> "CTCModel":
        """Set the training mode of everything but a frozen encoder."""
        super().train(mode)
        self.encoder.train(mode and not self.frozen)
        return self

    def forward(
        self,
        wavs: torch.Tensor,
        wav_lens: torch.Tensor,
        chunk: DynChunkTrainConfig | None = None,
    ) -> CTCOutput:
        """Compute the log probabilities of the tokens.

        Arguments
        ---------
        wavs : torch.Tensor
            (B, S) waveforms, padded on the right.
        wav_lens : torch.Tensor
            (B,) relative lengths.
        chunk : DynChunkTrainConfig, optional
            Chunks to encode in, in evaluation; by default every frame sees the whole
            utterance.
        """
        frames, lengths = self.frontend(wavs, wav_lens)
        if self.training and self.augment is not None:
            frames = self.augment(frames)
        if self.training and self.chunking is not None:
            chunk = self.chunking()
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            states = self.encode(frames, lengths, chunk)
        logits = self.head(self.dropout(states))
        return CTCOutput(logits.float().log_softmax(-1), lengths)

    def encode(
        self,
        frames: torch.Tensor,
        lengths: torch.Tensor,
        chunk: DynChunkTrainConfig | None = None,
    ) -> torch.Tensor:
        """Return what the linear layer sees: (B, T, D), (B,) -> (B, T, H)."""
        if chunk is None:  # an encoder of one's own need not know chunks
            return self.encoder(frames, lengths)
        return self.encoder(frames, lengths, chunk=chunk)


class SpecAugment(torch.nn.Module):
    """SpeechBrain's SpectrogramDrop over the unstacked frames, in time and frequency.

    Arguments
    ---------
    stack : int
        Frames that the front end stacks. They are taken apart, so that a dropped mel
        channel is dropped in all of them.
    time_drop, freq_drop : torch.nn.Module
        (B, T, C) -> (B, T, C) over the mel channels, each called once.

    Example
    -------
    >>> nothing = torch.nn.Identity()
    >>> augment = SpecAugment(stack=2, time_drop=nothing, freq_drop=torch.zeros_like)
    >>> augment(torch.ones(1, 3, 4)).sum()
    tensor(0.)
    """

    def __init__(
        self, *, stack: int, time_drop: torch.nn.Module, freq_drop: torch.nn.Module
    ) -> None:
        super().__init__()
        self.stack, self.time_drop, self.freq_drop = stack, time_drop, freq_drop

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Drop parts of the frames: (B, T, D) -> (B, T, D)."""
        batch, time, _ = frames.shape
        mels = frames.reshape(batch, time * self.stack, -1)
        return self.freq_drop(self.time_drop(mels)).reshape(batch, time, -1)
