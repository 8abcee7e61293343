"""Encoder and linear CTC layer: the recogniser that fine-tuning trains."""

import torch

from speechbrain_birq.models.frontend import Frames


class CTCModel(torch.nn.Module):
    """Front end, encoder, linear layer, log softmax.

    Arguments
    ---------
    frontend : FrontEnd
        The very one of pretraining.
    encoder : torch.nn.Module
    num_tokens : int
        V, the blank (0) included.
    augment : SpecAugment, optional
        Applied to the frames in training.
    dropout : float
        Before the linear layer.
    chunking : ChunkSampler, optional
        Chunks that training encodes in; evaluation sees what ``forward`` is told.

    Raises
    ------
    ValueError
        If chunks are wanted of a front end or an encoder that cannot do it.

    Example
    -------
    >>> from speechbrain_birq.models.encoders.encoder import SpeechBrainEncoder
    >>> from speechbrain_birq.models.frontend import FrontEnd
    >>> frontend = FrontEnd(stack=4)
    >>> encoder = SpeechBrainEncoder(
    ...     kind="conformer", input_dim=320, num_layers=1, d_model=16, nhead=2, d_ffn=32
    ... )
    >>> model = CTCModel(frontend=frontend, encoder=encoder, num_tokens=30)
    >>> log_probs, lengths = model(torch.randn(2, 16000), torch.ones(2))
    >>> log_probs.shape
    torch.Size([2, 25, 30])
    """

    def __init__(
        self,
        *,
        frontend,
        encoder,
        num_tokens,
        augment=None,
        dropout=0.0,
        chunking=None,
    ):
        super().__init__()
        if chunking is not None:
            chunking.check(frontend, encoder)
        self.chunking = chunking
        self.frontend, self.encoder, self.augment = frontend, encoder, augment
        self.dropout = torch.nn.Dropout(dropout)
        self.head = torch.nn.Linear(encoder.output_dim, num_tokens)
        self.frozen = False

    def freeze_encoder(self, frozen: bool) -> None:
        """Frozen: no gradient, no dropout, nothing moves in the encoder."""
        self.frozen = frozen
        self.encoder.train(self.training and not frozen)

    def train(self, mode=True):
        """Training mode, but for a frozen encoder."""
        super().train(mode)
        self.encoder.train(mode and not self.frozen)
        return self

    def forward(self, wavs, wav_lens, chunk=None) -> Frames:
        """Log probabilities.

        Arguments
        ---------
        wavs : torch.Tensor
            (B, S)
        wav_lens : torch.Tensor
            (B,) relative lengths.
        chunk : DynChunkTrainConfig, optional
            In evaluation; by default every frame sees the whole utterance.

        Returns
        -------
        Frames
            log probabilities (B, T, V), lengths (B,).
        """
        frames, lengths = self.frontend(wavs, wav_lens)
        if self.training and self.augment is not None:
            frames = self.augment(frames)
        if self.training and self.chunking is not None:
            chunk = self.chunking()
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            states = self.encode(frames, lengths, chunk)
        logits = self.head(self.dropout(states))
        return Frames(logits.float().log_softmax(-1), lengths)

    def encode(self, frames, lengths, chunk=None) -> torch.Tensor:
        """What the linear layer sees: (B, T, H)."""
        if chunk is None:
            return self.encoder(frames, lengths)
        return self.encoder(frames, lengths, chunk=chunk)


class SpecAugment(torch.nn.Module):
    """SpeechBrain's SpectrogramDrop over the unstacked frames, in time and frequency.

    Arguments
    ---------
    stack : int
        Frames stacked by the front end, taken apart so that a mel channel is hidden in
        all of them.
    time_drop : torch.nn.Module
        (B, T, C) -> (B, T, C)
    freq_drop : torch.nn.Module
        The same.
    """

    def __init__(self, *, stack, time_drop, freq_drop):
        super().__init__()
        self.stack, self.time_drop, self.freq_drop = stack, time_drop, freq_drop

    def forward(self, frames):
        """(B, T, D) -> (B, T, D)"""
        batch, time, _ = frames.shape
        mels = frames.reshape(batch, time * self.stack, -1)
        return self.freq_drop(self.time_drop(mels)).reshape(batch, time, -1)
