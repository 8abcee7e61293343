"""A finished run on anybody's audio: features of any layer, transcripts."""

from pathlib import Path

import torch
from speechbrain.dataio.audio_io import info

from speechbrain_birq.checkpoints.run_folder import (
    best_checkpoint,
    load_architecture,
    load_weights,
)
from speechbrain_birq.data.pipeline import AudioReader
from speechbrain_birq.decoding.decoders import make_decoder
from speechbrain_birq.decoding.tokens import load_tokens
from speechbrain_birq.errors import BadInput
from speechbrain_birq.inference.streaming import TextStream
from speechbrain_birq.models.ctc import CTCModel
from speechbrain_birq.models.encoders.chunking import make_chunk


class SpeechEncoder:
    """Front end and encoder of a run, pretrained or fine-tuned.

    Arguments
    ---------
    run_folder : str or Path
        The ``output_folder`` of a training.
    trust : tuple
        Further packages whose classes the folder may build.

    Raises
    ------
    BadInput
        If the folder is no run or its weights do not fit.
    """

    def __init__(self, run_folder, trust=()):
        self.folder = Path(run_folder)
        parts = load_architecture(self.folder, trust)
        self.frontend, self.encoder = parts["frontend"], parts["encoder"].eval()
        self.checkpoint = best_checkpoint(self.folder)
        load_weights(parts, self.folder, self.checkpoint)
        self.reader = AudioReader(self.frontend.sample_rate)

    def read(self, path) -> torch.Tensor:
        """(1, S) waveform at the run's sampling rate, any rate and channels on disk.

        Raises
        ------
        BadInput
            If the file cannot be read or is shorter than one frame.
        """
        if not Path(path).is_file():
            raise BadInput(f"no audio file {path}")
        try:
            info(str(path))
        except Exception as error:  # soundfile raises many kinds
            raise BadInput(f"cannot read {path} as audio ({error})") from error
        signal = self.reader(str(path))
        if self.frontend.num_frames(len(signal)) < 1:
            raise BadInput(f"{path} is shorter than one frame")
        return signal.unsqueeze(0)

    @torch.no_grad()
    def features(self, path, layer=None) -> torch.Tensor:
        """Output of a layer for one file.

        Arguments
        ---------
        path : str or Path
        layer : int, optional
            0 (input projection) to K; by default the normalised last layer.

        Returns
        -------
        torch.Tensor
            (T, H), one row each ``frontend.frame_ms``.

        Raises
        ------
        BadInput
            If there is no such layer.
        """
        frames = self.frontend(self.read(path), torch.ones(1))
        if layer is None:
            return self.encoder(*frames)[0]
        states = self.encoder.hidden_states(*frames)
        if not 0 <= layer < len(states):
            raise BadInput(f"no layer {layer}: the encoder has 0 to {len(states) - 1}")
        return states[layer][0]


class Recogniser(SpeechEncoder):
    """A fine-tuned run: audio to text.

    Arguments
    ---------
    run_folder : str or Path
        The ``output_folder`` of a fine-tuning.
    decoding : str
        ``greedy`` or ``beam``.
    trust : tuple
    """

    def __init__(self, run_folder, decoding="greedy", trust=()):
        self.tokens = tokens = load_tokens(run_folder)
        super().__init__(run_folder, trust)
        self.model = CTCModel(
            frontend=self.frontend, encoder=self.encoder, num_tokens=len(tokens)
        ).eval()
        load_weights({"head": self.model.head}, self.folder, self.checkpoint)
        self.decoder = make_decoder(decoding, tokens)

    @torch.no_grad()
    def log_probs(self, path):
        """(1, T, V) log probabilities of one file's tokens, and (1,) lengths."""
        return self.model(self.read(path), torch.ones(1))

    def transcribe(self, path) -> str:
        """Text of one file."""
        return self.decoder(*self.log_probs(path))[0]


class StreamingRecogniser(Recogniser):
    """A fine-tuned run that writes while it listens.

    Arguments
    ---------
    run_folder : str or Path
        The ``output_folder`` of a fine-tuning with ``normalize: global``.
    chunk : int
        Stacked frames that are encoded at once.
    left : int, optional
        Chunks to the left that a chunk sees; all of them by default, which costs more
        and more memory and time as a stream gets longer.
    trust : tuple

    Raises
    ------
    BadInput
        If the run cannot work chunk by chunk, or there is no such chunk.
    """

    def __init__(self, run_folder, chunk, left=None, trust=()):
        super().__init__(run_folder, trust=trust)
        self.seconds = 0.0  # of audio heard so far
        try:
            self.chunk = make_chunk(chunk, left)
            self.open()
        except ValueError as error:
            raise BadInput(f"cannot stream with {run_folder}: {error}") from error

    @property
    def chunk_ms(self) -> float:
        """Latency of the method: a chunk's first frame waits for its last."""
        return self.chunk.chunk_size * self.frontend.frame_ms

    def open(self) -> TextStream:
        """A new utterance: ``feed`` it (S,) samples of any number, then ``finish``."""
        return TextStream(self.model, self.tokens, self.chunk)

    def transcribe_in_pieces(self, path):
        """Yield the text of one file as it is heard, a chunk at a time."""
        signal, stream = self.read(path)[0], self.open()
        self.seconds += len(signal) / self.frontend.sample_rate
        samples = self.chunk.chunk_size * self.frontend.stack
        for piece in signal.split(samples * self.frontend.hop_samples):
            yield stream.feed(piece)
        yield stream.finish()

    def transcribe(self, path) -> str:
        """Text of one file."""
        return "".join(self.transcribe_in_pieces(path))
