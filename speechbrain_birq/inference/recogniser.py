"""Encode and transcribe any audio with a finished run."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch

from speechbrain_birq.checkpoints.run_folder import (
    best_checkpoint,
    load_architecture,
    load_weights,
)
from speechbrain_birq.data.audio_checks import printable
from speechbrain_birq.data.pipeline import AudioReader
from speechbrain_birq.decoding.decoders import make_decoder
from speechbrain_birq.decoding.tokens import load_tokens
from speechbrain_birq.errors import BadInput, from_user_code, out_of_memory
from speechbrain_birq.inference.streaming import TextStream
from speechbrain_birq.inference.windows import Encode, encode_in_windows
from speechbrain_birq.models.ctc import CTCModel, CTCOutput
from speechbrain_birq.models.encoders.chunking import make_chunk


class SpeechEncoder:
    """Front end and encoder of a pretraining or a fine-tuning.

    Arguments
    ---------
    run_folder : str or Path
        The ``output_folder`` of the training.
    trust : iterable
        Further packages whose classes the folder may build.

    Raises
    ------
    BadInput
        If the folder is no run or its weights do not fit.
    """

    def __init__(self, run_folder: str | Path, trust: Iterable[str] = ()) -> None:
        self.folder = Path(run_folder)
        parts = load_architecture(self.folder, trust)
        self.frontend, self.encoder = parts["frontend"], parts["encoder"].eval()
        self.checkpoint = best_checkpoint(self.folder)
        load_weights(parts, self.folder, self.checkpoint)
        self.reader = AudioReader(self.frontend.sample_rate)

    def read(self, path: str | Path) -> torch.Tensor:
        """Read a file of any rate and number of channels as (1, S) at the run's rate.

        Raises
        ------
        BadInput
            If the file cannot be read or is shorter than one frame.
        """
        if not Path(path).is_file():
            raise BadInput(f"no audio file {path}")
        try:
            signal = self.reader.read(str(path))
        except Exception as error:  # soundfile raises many kinds
            reason = printable(str(error))
            raise BadInput(f"cannot read {path} as audio ({reason})") from error
        if self.frontend.num_frames(len(signal)) < 1:
            milliseconds = 1000 * len(signal) / self.frontend.sample_rate
            raise BadInput(
                f"{path} is shorter than one frame: it has {milliseconds:.0f} ms"
            )
        return signal.unsqueeze(0)

    def encode(self, path: str | Path, encode: Encode) -> torch.Tensor:
        """Encode one file, in overlapping windows if it is longer than 2 minutes.

        Arguments
        ---------
        path : str or Path
        encode : callable
            (1, T, D) frames, (1,) lengths -> (1, T, H)

        Raises
        ------
        BadInput
            If the file cannot be read, or the memory is too small for it.
        """
        signal = self.read(path)
        try:
            frames = self.frontend(signal, torch.ones(1))
            return encode_in_windows(encode, frames, self.frontend.frame_ms)
        except (MemoryError, OSError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            seconds = signal.shape[1] / self.frontend.sample_rate
            reason = printable(str(error))
            raise BadInput(
                f"cannot encode {path}, {seconds:.0f} s ({reason})"
            ) from error

    @torch.no_grad()
    def features(self, path: str | Path, layer: int | None = None) -> torch.Tensor:
        """Return the output of a layer for one file.

        Arguments
        ---------
        path : str or Path
        layer : int, optional
            0 (input projection) to K; by default the normalized last layer.

        Returns
        -------
        torch.Tensor
            (T, H), a row every ``frontend.frame_ms`` milliseconds.

        Raises
        ------
        BadInput
            If the file cannot be read, or there is no such layer.
        """
        if layer is None:
            return self.encode(path, self.encoder)[0]
        if not 0 <= layer <= self.encoder.num_layers:
            last = self.encoder.num_layers
            raise BadInput(f"no layer {layer}: the encoder has 0 to {last}")
        states = self.encode(path, lambda *x: self.encoder.hidden_states(*x)[layer])
        return states[0]


class Recogniser(SpeechEncoder):
    """A fine-tuned run that turns audio into text.

    Arguments
    ---------
    run_folder : str or Path
        The ``output_folder`` of a fine-tuning.
    decoding : str
        ``greedy`` or ``beam``.
    trust : iterable
        Further packages whose classes the folder may build.

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
    ) -> None:
        self.tokens = tokens = load_tokens(run_folder)
        super().__init__(run_folder, trust)
        self.model = CTCModel(
            frontend=self.frontend, encoder=self.encoder, num_tokens=len(tokens)
        ).eval()
        load_weights({"head": self.model.head}, self.folder, self.checkpoint)
        self.decoder = make_decoder(decoding, tokens)

    @torch.no_grad()
    def log_probs(self, path: str | Path) -> CTCOutput:
        """Return the log probabilities of one file's tokens: (1, T, V), (1,)."""
        log_probs = self.encode(path, self._scored)
        return CTCOutput(log_probs, torch.tensor([log_probs.shape[1]]))

    def _scored(self, frames, lengths):
        states = self.model.encode(frames, lengths)
        return self.model.head(states).float().log_softmax(-1)

    def transcribe(self, path: str | Path) -> str:
        """Return the text of one file."""
        return self.decoder(*self.log_probs(path))[0]


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
        return TextStream(self.model, self.tokens, self.chunk)

    def transcribe_in_pieces(self, path: str | Path) -> Iterator[str]:
        """Yield the text that each chunk of a file adds."""
        signal, stream = self.read(path)[0], self.open()
        self.seconds += len(signal) / self.frontend.sample_rate
        samples = self.chunk.chunk_size * self.frontend.stack
        for piece in signal.split(samples * self.frontend.hop_samples):
            yield stream.feed(piece)
        yield stream.finish()

    def transcribe(self, path: str | Path) -> str:
        """Return the text of one file."""
        return "".join(self.transcribe_in_pieces(path))
