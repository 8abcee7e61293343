"""Transcribe any audio with a finished run."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from speechbrain.utils.dynamic_chunk_training import DynChunkTrainConfig

from speechbrain_birq.checkpoints.run_folder import load_weights
from speechbrain_birq.decoding.decoders import make_decoder
from speechbrain_birq.decoding.tokens import load_tokens
from speechbrain_birq.errors import BadInput, from_user_code
from speechbrain_birq.inference.loaded_run import LoadedRun
from speechbrain_birq.inference.recordings import Recording
from speechbrain_birq.inference.streaming import TextStream
from speechbrain_birq.models.ctc import CTCOutput
from speechbrain_birq.models.encoders.chunking import make_chunk


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
        Whether gradients and dropout of the encoder are off in any mode that a Brain
        sets.

    Raises
    ------
    BadInput
        If the folder is no fine-tuning or its weights do not fit.
    """

    def __init__(
        self,
        run_folder: str | Path,
        decoding: str = "greedy",
        trust: Iterable[str] = (),
        *,
        freeze: bool = True,
    ) -> None:
        tokens = load_tokens(run_folder)
        super().__init__(run_folder, trust, freeze=freeze)
        self.tokens = tokens
        self.head: torch.nn.Module = torch.nn.Linear(self.output_dim, len(tokens))
        load_weights({"head": self.head}, self.folder, self.checkpoint)
        self.head.requires_grad_(not freeze)
        self.decoder = make_decoder(decoding, tokens)
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


class StreamingRecogniser(Recogniser):
    """A fine-tuned run that transcribes audio while it arrives.

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
