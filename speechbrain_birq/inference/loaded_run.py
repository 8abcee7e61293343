"""A run folder as a module: front end, encoder, and the layers of any recording."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from speechbrain_birq.checkpoints.published import find_run
from speechbrain_birq.checkpoints.run_folder import (
    best_checkpoint,
    load_architecture,
    load_weights,
)
from speechbrain_birq.inference.batches import (
    BATCH_SECONDS,
    BatchEncoder,
    Outcome,
    in_order,
)
from speechbrain_birq.inference.freezable import FreezableEncoder
from speechbrain_birq.inference.layers import Layer, layer_encoder
from speechbrain_birq.inference.recordings import Recording, RecordingReader
from speechbrain_birq.models.frontend import Frames


class LoadedRun(FreezableEncoder):
    """Front end and encoder of a run folder; the base of what users load.

    The module is in evaluation mode until ``train()`` is called. It moves and rounds as
    every module does; the front end stays in float32.

    Arguments
    ---------
    run_folder : str or Path
        The ``output_folder`` of the training, or the name of weights that come with
        the package (``birq_tiny``, ``best_rq_tiny``).
    trust : iterable
        Further packages whose classes the folder may build.
    freeze : bool
        Whether gradients and dropout of the encoder are off in any mode that a Brain
        sets.

    Raises
    ------
    BadInput
        If the folder is no run or its weights do not fit.
    """

    def __init__(
        self,
        run_folder: str | Path,
        *,
        trust: Iterable[str] = (),
        freeze: bool = True,
    ) -> None:
        folder = find_run(run_folder)
        parts = load_architecture(folder, trust)
        super().__init__(**parts, freeze=freeze)
        self.folder, self.checkpoint = folder, best_checkpoint(folder)
        load_weights(parts, folder, self.checkpoint)
        self.reader = RecordingReader(self.frontend)
        self.eval()

    @property
    def device(self) -> torch.device:
        """Where the module computes."""
        return self._example().device

    def read(self, path: str | Path) -> torch.Tensor:
        """Read a file of any rate and number of channels as (1, S) at the run's rate.

        Raises
        ------
        BadInput
            If the file cannot be read or is shorter than one frame.
        """
        return self.reader(path).unsqueeze(0)

    def features(self, recording: Recording, layer: Layer = None) -> torch.Tensor:
        """Return the output of a layer for one recording.

        A recording of more than 2 minutes is encoded in overlapping windows. Dropout
        and gradients are off.

        Arguments
        ---------
        recording : str, Path or torch.Tensor
            A file of any rate and format, or samples (S,) at ``frontend.sample_rate``.
        layer : None, int, "all" or sequence of int
            0 (input projection) to K; None is the normalized last layer. As in NumPy,
            a number drops the axis of layers, a list or ``"all"`` keeps it.

        Returns
        -------
        torch.Tensor
            (T, H), a row every ``frontend.frame_ms`` milliseconds; (L, T, H) of L
            layers. On the CPU, in the module's ``dtype``.

        Raises
        ------
        BadInput
            If the recording cannot be used, or there is no such layer.
        """
        encode = self._layers(layer)
        with self._evaluating():
            return _layers_first(self._batch_encoder(encode).one(recording))

    def features_of(
        self,
        recordings: Sequence[Recording],
        layer: Layer = None,
        batch_seconds: float = BATCH_SECONDS,
    ) -> list[torch.Tensor]:
        """Return the ``features`` of many recordings, encoded in batches.

        Arguments
        ---------
        recordings : sequence
            As for ``features``.
        layer : None, int, "all" or sequence of int
        batch_seconds : float
            Most seconds of audio in a batch, padding included.

        Returns
        -------
        list of torch.Tensor
            In the order of the recordings; each as ``features`` returns it.

        Raises
        ------
        BadInput
            If a recording cannot be used, or there is no such layer.
            ``features_as_completed`` goes on.
        """
        return in_order(self.features_as_completed(recordings, layer, batch_seconds))

    def features_as_completed(
        self,
        recordings: Sequence[Recording],
        layer: Layer = None,
        batch_seconds: float = BATCH_SECONDS,
    ) -> Iterator[Outcome[torch.Tensor]]:
        """Yield the ``features`` of each recording when it is encoded.

        Arguments are those of ``features_of``.

        Yields
        ------
        Outcome
            ``index`` of the recording; ``result()`` returns its features, or raises
            ``BadInput`` if it cannot be used. The longest recordings come first.

        Raises
        ------
        BadInput
            If there is no such layer.
        """
        encode = self._layers(layer)
        for outcome in self._encoded(recordings, encode, batch_seconds):
            if outcome.value is None:
                yield outcome
            else:
                yield Outcome(outcome.index, _layers_first(outcome.value))

    def _frames(self, wavs: torch.Tensor, wav_lens: torch.Tensor | None) -> Frames:
        """Compute the encoder's input: (B, S) or (S,), (B,)."""
        wavs = wavs.unsqueeze(0) if wavs.ndim == 1 else wavs
        if wav_lens is None:
            wav_lens = torch.ones(len(wavs), device=wavs.device)
        return self.frontend(wavs, wav_lens)

    def _layers(self, layer: Layer) -> Callable[..., torch.Tensor]:
        """Return ``layer_encoder`` of float32 frames in the module's precision."""
        return self._in_own_precision(layer_encoder(self.encoder, layer))

    def _encoded(self, recordings, encode, batch_seconds):
        with self._evaluating():
            yield from self._batch_encoder(encode).many(recordings, batch_seconds)

    def _batch_encoder(self, encode):
        return BatchEncoder(
            frontend=self.frontend,
            reader=self.reader,
            encode=encode,
            device=self.device,
        )

    @contextmanager
    def _evaluating(self):
        training = self.training
        try:
            yield self.eval()
        finally:
            self.train(training)

    def __getstate__(self):
        # Its memory of what was logged is shared with reading processes, and cannot
        # be copied.
        return {k: v for k, v in self.__dict__.items() if k != "reader"}

    def __setstate__(self, state):
        super().__setstate__(state)
        self.reader = RecordingReader(self.frontend)


def _layers_first(states):
    """(T, H) as it is; (T, L, H) -> (L, T, H)"""
    return states if states.ndim == 2 else states.transpose(0, 1).contiguous()
