"""Transcribe any audio with a finished run."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from speechbrain.utils.dynamic_chunk_training import DynChunkTrainConfig

from speechbrain_birq.checkpoints.run_folder import load_weights
from speechbrain_birq.decoding.decoders import (
    GreedyDecoder,
    Hypothesis,
    make_decoder,
)
from speechbrain_birq.decoding.tokens import load_tokens
from speechbrain_birq.decoding.words import (
    Word,
    aligned_path,
    best_path,
    confidence,
    emissions,
    words_of,
)
from speechbrain_birq.errors import BadInput, from_user_code
from speechbrain_birq.inference.batches import BATCH_SECONDS, Outcome, in_order
from speechbrain_birq.inference.loaded_run import LoadedRun
from speechbrain_birq.inference.recordings import Recording
from speechbrain_birq.inference.streaming import TextStream
from speechbrain_birq.models.ctc import CTCOutput
from speechbrain_birq.models.encoders.chunking import make_chunk


class Transcript(NamedTuple):
    """What was said: the best hypothesis with its words, and the others."""

    text: str
    confidence: float  # geometric mean over all tokens, see ``decoding.words``
    # From a CTC alignment; empty if the text has more tokens than there are frames.
    words: list[Word]
    nbest: list[Hypothesis]  # the best first; one with greedy decoding


class Recogniser(LoadedRun):
    """A fine-tuned run that turns audio into text.

    Arguments
    ---------
    run_folder : str or Path
        The ``output_folder`` of a fine-tuning.
    decoding : str
        ``greedy`` or ``beam``.
    trust : iterable
        Further packages whose classes the folder may build.
    freeze : bool
        Whether gradients and dropout are off in any mode that a Brain sets.
    **options
        Arguments of ``BeamDecoder``: ``beam_size``, ``lm_path``, ``alpha``, ``beta``,
        ``num_best``.

    Raises
    ------
    BadInput
        If the folder is no fine-tuning, its weights do not fit, or the decoder does not
        take the options.
    """

    def __init__(
        self,
        run_folder: str | Path,
        *,
        decoding: str = "greedy",
        trust: Iterable[str] = (),
        freeze: bool = True,
        **options: Any,
    ) -> None:
        tokens = load_tokens(run_folder)
        super().__init__(run_folder, trust=trust, freeze=freeze)
        self.tokens = tokens
        self.head: torch.nn.Module = torch.nn.Linear(self.output_dim, len(tokens))
        load_weights({"head": self.head}, self.folder, self.checkpoint)
        self.head.requires_grad_(not freeze)
        self.decoder = make_decoder(decoding, tokens, **options)
        self.eval()

    def forward(
        self,
        wavs: torch.Tensor,
        wav_lens: torch.Tensor | None = None,
        chunk: DynChunkTrainConfig | None = None,
    ) -> CTCOutput:
        """Compute the log probabilities of the tokens for a padded batch.

        Arguments
        ---------
        wavs : torch.Tensor
            (B, S) or (S,) at ``frontend.sample_rate``, each of at least one frame, on
            the module's device.
        wav_lens : torch.Tensor, optional
            (B,) relative lengths, as SpeechBrain has them; by default all are 1.
        chunk : DynChunkTrainConfig, optional
            Chunks to encode in; by default every frame sees the whole utterance.

        Returns
        -------
        CTCOutput
            (B, T, V) float32, undefined on padding; (B,) valid frames.
        """
        frames = self._frames(wavs, wav_lens)
        with self._gradients():
            log_probs = self._scored(*frames, chunk)
        return CTCOutput(log_probs, frames.lengths)

    def log_probs(self, recording: Recording) -> CTCOutput:
        """Return the log probabilities of one recording's tokens: (1, T, V), (1,)."""
        with self._evaluating():
            log_probs = self._batch_encoder(self._scored).one(recording)
        return CTCOutput(log_probs.unsqueeze(0), torch.tensor([len(log_probs)]))

    def _scored(self, frames, lengths, chunk=None):
        # An encoder of one's own need not know chunks.
        options = {} if chunk is None else {"chunk": chunk}
        states = self._layers(None)(frames, lengths, **options)
        return self.head(states).float().log_softmax(-1)

    def transcribe(self, recording: Recording) -> str:
        """Return the text of one recording."""
        return self.decoder(*self.log_probs(recording))[0]

    def transcript(self, recording: Recording) -> Transcript:
        """Return text, words with times and confidences, and the other hypotheses.

        Raises
        ------
        BadInput
            If the recording cannot be used.
        """
        return self._transcript(self.log_probs(recording).log_probs[0])

    def transcripts_of(
        self,
        recordings: Sequence[Recording],
        batch_seconds: float = BATCH_SECONDS,
    ) -> list[Transcript]:
        """Return the transcripts of many recordings, encoded in batches.

        Arguments
        ---------
        recordings : sequence
            Files of any rate and format, or samples (S,) at ``frontend.sample_rate``.
        batch_seconds : float
            Most seconds of audio in a batch, padding included.

        Raises
        ------
        BadInput
            If a recording cannot be used. ``transcripts_as_completed`` goes on.
        """
        return in_order(self.transcripts_as_completed(recordings, batch_seconds))

    def transcripts_as_completed(
        self,
        recordings: Sequence[Recording],
        batch_seconds: float = BATCH_SECONDS,
    ) -> Iterator[Outcome[Transcript]]:
        """Yield the transcript of each recording when it is decoded.

        Arguments are those of ``transcripts_of``.

        Yields
        ------
        Outcome
            ``index`` of the recording; ``result()`` returns its transcript, or raises
            ``BadInput`` if it cannot be used. The longest recordings come first.
        """
        for outcome in self._encoded(recordings, self._scored, batch_seconds):
            if outcome.value is None:
                yield outcome
            else:
                yield Outcome(outcome.index, self._transcript(outcome.value))

    def _transcript(self, log_probs):
        """(T, V) -> Transcript"""
        lengths = torch.tensor([len(log_probs)])
        (found,) = self.decoder.hypotheses(log_probs[None], lengths)
        if isinstance(self.decoder, GreedyDecoder):
            path: torch.Tensor | None = best_path(log_probs)
        else:
            path = aligned_path(log_probs, self.tokens.encode(found[0].text))
        frame_seconds = self.frontend.frame_ms / 1000
        shift = frame_seconds / self.frontend.stack / 2
        spoken = [] if path is None else emissions(log_probs, path)
        return Transcript(
            text=found[0].text,
            confidence=confidence(spoken),
            words=words_of(
                spoken, self.tokens, frame_seconds=frame_seconds, shift=shift
            ),
            nbest=found,
        )


class StreamingRecogniser(Recogniser):
    """A fine-tuned run that transcribes audio while it arrives.

    What it says of a whole recording (``forward``, ``log_probs``, ``transcript``) is
    encoded in the chunks of the stream, too.

    Arguments
    ---------
    run_folder : str or Path
        The ``output_folder`` of a fine-tuning with ``normalize: global``.
    chunk : int
        Stacked frames that are encoded at once.
    left : int, optional
        Number of chunks to the left that a chunk sees. By default it sees all of them:
        memory and time for a chunk then grow with the length of the stream.
    trust : iterable
        Further packages whose classes the folder may build.

    Raises
    ------
    BadInput
        If the run cannot work chunk by chunk, or the chunk's size is impossible.
    """

    def __init__(
        self,
        run_folder: str | Path,
        *,
        chunk: int,
        left: int | None = None,
        trust: Iterable[str] = (),
    ) -> None:
        super().__init__(run_folder, trust=trust)
        self.seconds = 0.0  # audio heard so far
        try:
            self.chunk = make_chunk(chunk, left)
            self.open()
        except ValueError as error:
            if from_user_code(error):
                raise
            raise BadInput(f"cannot stream with {run_folder}: {error}") from error

    def _scored(self, frames, lengths, chunk=None):
        return super()._scored(frames, lengths, chunk or self.chunk)

    @property
    def chunk_ms(self) -> float:
        """Latency in milliseconds: a chunk's first frame waits for its last."""
        return self.chunk.chunk_size * self.frontend.frame_ms

    def open(self) -> TextStream:
        """Begin an utterance: ``feed`` it samples (S,) at will, then ``finish``."""
        return TextStream(self, self.tokens, self.chunk)

    def transcribe_in_pieces(self, recording: Recording) -> Iterator[str]:
        """Yield the text that each chunk of a recording adds."""
        signal, stream = self.reader(recording), self.open()
        self.seconds += len(signal) / self.frontend.sample_rate
        samples = self.chunk.chunk_size * self.frontend.stack
        for piece in signal.split(samples * self.frontend.hop_samples):
            yield stream.feed(piece)
        yield stream.finish()

    def transcribe(self, recording: Recording) -> str:
        """Return the text of one recording."""
        return "".join(self.transcribe_in_pieces(recording))
