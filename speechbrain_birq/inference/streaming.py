"""Transcribe a waveform piece by piece; equal to encoding all of it in chunks."""

from typing import Protocol, cast

import torch
from speechbrain.utils.dynamic_chunk_training import DynChunkTrainConfig

from speechbrain_birq.decoding.tokens import Tokens
from speechbrain_birq.errors import BadInput
from speechbrain_birq.inference.recordings import checked
from speechbrain_birq.models.encoders.chunking import check_chunks
from speechbrain_birq.models.encoders.encoder import SpeechBrainEncoder
from speechbrain_birq.models.encoders.interface import Encoder
from speechbrain_birq.models.frontend import FrontEnd


class StreamedModel(Protocol):
    """Whatever has a front end, an encoder and a CTC layer, as a ``CTCModel`` has."""

    frontend: FrontEnd
    encoder: Encoder
    head: torch.nn.Module


class FrameStream:
    """Front end of a stream: a frame is returned as soon as its window is complete.

    Arguments
    ---------
    frontend : FrontEnd
        A front end with ``normalize: global``.

    Example
    -------
    >>> from speechbrain_birq.models.frontend import FrontEnd
    >>> frontend = FrontEnd(n_mels=40, stack=4, normalize="global")
    >>> frontend.estimate([torch.randn(16000)], seconds=1)
    >>> stream = FrameStream(frontend)
    >>> [len(stream.feed(torch.randn(1600))) for _ in range(3)], len(stream.finish())
    ([2, 2, 3], 0)
    """

    def __init__(self, frontend: FrontEnd) -> None:
        self.frontend, self.hop = frontend, frontend.hop_samples
        window = frontend.fbank.compute_STFT.n_fft
        self.after = window - window // 2  # samples of a window from its center on
        self.context = -(-(window // 2) // self.hop)  # frames before the next window
        self.samples = torch.zeros(0, device=frontend.device)
        self.done = 0  # frames at the start of `samples` that were returned
        self.started = False
        # Of an incomplete group.
        self.mels = self.samples.new_zeros(1, 0, frontend.n_mels)

    def feed(self, samples: torch.Tensor) -> torch.Tensor:
        """Add samples (S,), return the frames (T, D) that they complete."""
        samples = samples.to(self.samples)
        self.samples = torch.cat((self.samples, samples))
        return self._until((len(self.samples) - self.after) // self.hop + 1)

    def finish(self) -> torch.Tensor:
        """Return the last frames (T, D), with zeros after the last sample."""
        if not self.started and not len(self.samples):
            return self._until(0)
        return self._until(len(self.samples) // self.hop + 1)

    def _until(self, end):
        if end > self.done:
            self.started = True
            mels = self.frontend.log_mels(self.samples.unsqueeze(0))[:, self.done : end]
            self.mels = torch.cat((self.mels, self.frontend.statistics(mels)), 1)
            # Keep these samples, because the next window begins before it.
            forget = max(0, end - self.context)
            self.samples, self.done = self.samples[forget * self.hop :], end - forget
        frames = self.frontend.stacked(self.mels)
        self.mels = self.mels[:, frames.shape[1] * self.frontend.stack :]
        return frames[0]


class EncoderStream:
    """Encoder of a stream: frames wait until they fill a chunk.

    Arguments
    ---------
    encoder : SpeechBrainEncoder
        The encoder in evaluation mode.
    chunk : DynChunkTrainConfig
    """

    def __init__(self, encoder: SpeechBrainEncoder, chunk: DynChunkTrainConfig) -> None:
        self.encoder, self.size = encoder, chunk.chunk_size
        self.contexts = encoder.streaming_contexts(chunk)
        example = next(encoder.parameters())
        self.waiting = example.new_zeros(0, encoder.input_dim).detach()

    def feed(self, frames: torch.Tensor) -> torch.Tensor:
        """Add frames (T, D), return the states (T', H) of the chunks they complete."""
        self.waiting = torch.cat((self.waiting, frames.to(self.waiting)))
        complete = len(self.waiting) - len(self.waiting) % self.size
        return self._encode(complete)

    def finish(self) -> torch.Tensor:
        """Return the states (T', H) of the last chunk, which may be shorter."""
        return self._encode(len(self.waiting))

    def _encode(self, num_frames):
        ready, self.waiting = self.waiting[:num_frames], self.waiting[num_frames:]
        states = [self.waiting.new_zeros(0, self.encoder.output_dim)]
        for chunk in ready.split(self.size) if num_frames else ():
            states += self.encoder.forward_streaming(chunk.unsqueeze(0), self.contexts)
        return torch.cat(states)


class TextStream:
    """Greedy CTC transcript of an utterance that arrives in pieces of any size.

    Arguments
    ---------
    model : CTCModel or Recogniser
        The model in evaluation mode.
    tokens : CharacterTokens or SentencePieceTokens
    chunk : DynChunkTrainConfig

    Raises
    ------
    ValueError
        If the model cannot work chunk by chunk.
    """

    def __init__(
        self, model: StreamedModel, tokens: Tokens, chunk: DynChunkTrainConfig
    ) -> None:
        check_chunks(model.frontend, model.encoder)
        self.head, self.tokens = model.head, tokens
        self.frames = FrameStream(model.frontend)
        # check_chunks has made sure that the encoder has the streaming methods.
        self.encoder = EncoderStream(cast(SpeechBrainEncoder, model.encoder), chunk)
        self.last, self.text = 0, ""
        self.numbers: list[int] = []
        self.finished = False

    def feed(self, samples: torch.Tensor) -> str:
        """Add samples (S,), return the text that they add.

        Raises
        ------
        BadInput
            If they have more dimensions, are integers, or are not finite; or after the
            end of the utterance.
        """
        return self.decode(self.log_probs(checked(samples)))

    def finish(self) -> str:
        """Return the text that the end of the utterance adds."""
        return self.decode(self.last_log_probs())

    @torch.no_grad()
    def log_probs(self, samples: torch.Tensor) -> torch.Tensor:
        """Add samples (S,), return (T, V) of the chunks that they complete."""
        self._refuse_finished()
        return self._scored(self.encoder.feed(self.frames.feed(samples)))

    @torch.no_grad()
    def last_log_probs(self) -> torch.Tensor:
        """Return (T, V) of the samples and frames that were waiting."""
        self._refuse_finished()
        self.finished = True
        states = self.encoder.feed(self.frames.finish()), self.encoder.finish()
        return self._scored(torch.cat(states))

    def decode(self, log_probs: torch.Tensor) -> str:
        """Return the text that more log probabilities (T, V) add."""
        for token in log_probs.argmax(-1).tolist():
            if token not in (0, self.last):
                self.numbers.append(token)
            self.last = token
        before = len(self.text)
        self.text = " ".join(self.tokens.decode(self.numbers).split())
        return self.text[before:]

    def _refuse_finished(self):
        if self.finished:
            raise BadInput("this utterance was finished: open another stream")

    def _scored(self, states):
        return self.head(states).float().log_softmax(-1)
