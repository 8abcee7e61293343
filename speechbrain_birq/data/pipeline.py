"""Manifests to datasets: reading and resampling audio, masks."""

import io
import logging
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import torch
import torchaudio
from speechbrain.dataio.audio_io import info, load
from speechbrain.dataio.dataset import DynamicItemDataset

from speechbrain_birq.data.audio_checks import (
    UNKNOWN_LENGTH,
    LoggedOnce,
    check_header,
    check_rates,
    check_samples,
    printable,
    unusual,
)
from speechbrain_birq.data.manifest import read_manifest, report_left_out
from speechbrain_birq.errors import BadInput

logger = logging.getLogger(__name__)

# A dynamic item of SpeechBrain: function, what it takes, what it provides.
Item = tuple[Callable[..., Any], str | Sequence[str], str | Sequence[str]]


class AudioReader:
    """Reads a file as mono at one rate; an unreadable file gives an empty waveform.

    Files that are unreadable or hold numbers that are not finite are named in the log,
    each once however many processes read; so are silent, constant and clipped ones,
    which are used. The first file that is resampled or averaged is named for each kind.

    Arguments
    ---------
    sample_rate : int
        Hz of what is returned.
    cache_gb : float
        Decoded audio kept in memory as 16-bit numbers, up to this much, so that
        compressed audio is decoded once instead of once an epoch. 0 keeps none.
    """

    def __init__(self, sample_rate: int, *, cache_gb: float = 0.0) -> None:
        self.sample_rate = sample_rate
        self.budget = int(cache_gb * 2**30)
        self.cache: dict[str, torch.Tensor] = {}
        self.unreadable = LoggedOnce()
        self.unusual, self.converted = LoggedOnce(), LoggedOnce()

    def __call__(
        self, path: str, source: io.BytesIO | Exception | None = None
    ) -> torch.Tensor:
        """Return (S,) float32 in [-1, 1]; empty if the file cannot be read.

        Arguments
        ---------
        path : str
        source : file-like or Exception, optional
            The file's content if it lies elsewhere, or why there is none; ``path`` is
            its name then.
        """
        stored = self.cache.get(path)
        if stored is None:
            # Rounded to 16 bits even if not kept: a resumed run must hear the same.
            stored = self._read(path, source)
            # What could not be read is tried again in the next epoch.
            if 0 < stored.nbytes <= self.budget:
                self.budget -= stored.nbytes
                self.cache[path] = stored
        return stored * (1 / 32768)  # exact, and float32

    def read(self, path: str) -> torch.Tensor:
        """Return (S,) float32 in [-1, 1]; raise what is wrong with the file.

        Raises
        ------
        Exception
            soundfile raises many kinds.
        """
        return self._converted(path, *self._checked(path, None)) * (1 / 32768)

    def _read(self, path, source):
        """(S,) int16"""
        try:
            signal, rate = self._checked(path, source)
        except Exception as error:  # soundfile raises many kinds
            self._log_unreadable(path, error)
            return torch.zeros(0, dtype=torch.int16)
        return self._converted(path, signal, rate)

    def _checked(self, path, source):
        signal, rate = _load(path, source)
        check_rates(rate, self.sample_rate)
        check_samples(signal)
        return signal, rate

    def _converted(self, path, signal, rate):
        """(S,) int16"""
        if signal.dtype == torch.int16:
            if rate == self.sample_rate:
                return signal[0]
            signal = signal / 32768
        if len(signal) > 1:
            self._log_converted(path, f"{len(signal)} channels, averaged")
        signal = signal.mean(0) if len(signal) > 1 else signal[0]
        self._log_unusual(path, signal)
        if rate != self.sample_rate:
            self._log_converted(path, f"{rate} Hz, resampled to {self.sample_rate} Hz")
            signal = _resampler(rate, self.sample_rate)(signal)
        # In place: fresh memory costs more than the arithmetic.
        return signal.mul_(32768).round_().clamp_(-32768, 32767).short()

    def _log_unreadable(self, path, error):
        count = self.unreadable.number(path)
        if count:
            reason = printable(str(error))
            logger.warning(
                "skipped %s: unreadable (%s); %d now", printable(path), reason, count
            )

    def _log_unusual(self, path, signal):
        what = unusual(signal)
        count = what and self.unusual.number(path)
        if count:
            logger.warning(
                "%s is %s but used; %d such now", printable(path), what, count
            )

    def _log_converted(self, path, what):
        if self.converted.number(what):
            logger.info("%s: %s; so are others like it", printable(path), what)


def _load(path, source):
    """(channels, S), Hz; float32 of a file, int16 of a shard's FLAC"""
    if isinstance(source, Exception):
        raise source
    try:
        if source is None:
            signal, rate = load(path)
        else:
            signal, rate = load(source, dtype=torch.int16)
    except Exception:
        _refuse_unknown_length(path if source is None else source)
        raise
    check_header(rate, signal.shape[1])
    return signal, rate


def _refuse_unknown_length(file):
    """Say so where soundfile complains of an array that is too big."""
    if not isinstance(file, str):
        file.seek(0)
    header = info(file)
    if header.frames == UNKNOWN_LENGTH:
        check_header(header.sample_rate, UNKNOWN_LENGTH)


@lru_cache(maxsize=16)
def _resampler(old_rate: int, new_rate: int) -> Any:
    return torchaudio.transforms.Resample(old_rate, new_rate)


def make_dataset(
    manifest: str | Path,
    *,
    reader: AudioReader,
    min_seconds: float,
    max_seconds: float,
    needs_text: bool = False,
    items: Iterable[Item] = (),
) -> DynamicItemDataset:
    """Make a dataset of a manifest's utterances: ``id``, ``sig`` and further items.

    Arguments
    ---------
    manifest : str or Path
        The split's CSV file, see ``write_manifest``.
    reader : AudioReader
        Path of a recording -> waveform (S,), which becomes ``sig``.
    min_seconds, max_seconds : float
        Shorter and longer utterances are left out, counted and named in the log.
    needs_text : bool
        Leave out utterances with an empty transcript.
    items : list
        (function, takes, provides) of SpeechBrain's dynamic items. They do not know the
        epoch; ``MaskItem`` says how to share it.

    Raises
    ------
    BadInput
        If nothing is left, or two utterances have one name.
    """
    kept, left_out = {}, []
    rows = read_manifest(manifest)
    for row in rows:
        fits = min_seconds <= row.duration <= max_seconds
        if not fits or (needs_text and not row.text):
            left_out.append(row.ID)
        elif row.ID in kept:
            raise BadInput(f"{manifest} has two rows of ID {row.ID!r}: rename one")
        else:
            kept[row.ID] = row._asdict()
    report_left_out(
        manifest,
        len(kept),
        len(rows),
        min_seconds=min_seconds,
        max_seconds=max_seconds,
        needs_text=needs_text,
        names=left_out,
    )
    dataset = DynamicItemDataset(kept)
    dataset.add_dynamic_item(reader, takes="wav", provides="sig")
    return with_items(dataset, items)


def with_items(dataset: Any, items: Iterable[Item]) -> Any:
    """Add dynamic items to a dataset; its output is ``id``, ``sig`` and these."""
    items = list(items)
    for function, takes, provides in items:
        dataset.add_dynamic_item(function, takes=takes, provides=provides)
    provided = [name for _, _, provides in items for name in _as_list(provides)]
    dataset.set_output_keys(["id", "sig", *provided])
    return dataset


def _as_list(names):
    return [names] if isinstance(names, str) else list(names)


class _FrontEnd(Protocol):
    def num_frames(self, num_samples: int, /) -> int: ...


class MaskItem:
    """Draws an utterance's mask where its audio is read; a dynamic item.

    The masks are epoch 0's until ``set_epoch`` is called.

    Arguments
    ---------
    frontend : FrontEnd
        Knows how many frames a waveform gives.
    masking : SpanMasking
        (frames, utterance, epoch) -> mask

    Example
    -------
    >>> from speechbrain_birq.models import FrontEnd, SpanMasking
    >>> item = MaskItem(FrontEnd(stack=4), SpanMasking(frame_ms=40))
    >>> first = item(torch.zeros(16000), "utterance-1")
    >>> item.set_epoch(1)
    >>> first.shape, torch.equal(item(torch.zeros(16000), "utterance-1"), first)
    (torch.Size([25]), False)
    """

    def __init__(
        self, frontend: _FrontEnd, masking: Callable[[int, str, int], torch.Tensor]
    ) -> None:
        self.num_frames, self.masking = frontend.num_frames, masking
        # In shared memory, so that worker processes see the training advance.
        self.epoch = torch.zeros((), dtype=torch.long).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Draw the masks of this epoch from now on, in all worker processes."""
        self.epoch.fill_(epoch)

    def __call__(self, sig: torch.Tensor, utterance: str) -> torch.Tensor:
        """Return the mask of a waveform: (T,) bool."""
        return self.masking(self.num_frames(len(sig)), utterance, int(self.epoch))
