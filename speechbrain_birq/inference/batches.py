"""Encode many recordings: similar lengths together, the next ones read meanwhile."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from speechbrain.utils.data_utils import batch_pad_right

from speechbrain_birq.data.audio_checks import printable
from speechbrain_birq.errors import BadInput, out_of_memory
from speechbrain_birq.inference.recordings import (
    Recording,
    RecordingReader,
    listed,
    named,
)
from speechbrain_birq.inference.windows import LONGEST, Encode, encode_in_windows
from speechbrain_birq.models.frontend import FrontEnd

BATCH_SECONDS = 200.0
POOL = 1000  # recordings that are sorted by length at a time, so results come early
AHEAD = 2  # batches that are read while one is encoded
READERS = min(8, os.cpu_count() or 1)  # threads; decoding releases Python's lock

Value = TypeVar("Value")


@dataclass(frozen=True)
class Outcome(Generic[Value]):
    """What came of one of many recordings, as a ``concurrent.futures.Future`` has it.

    Attributes
    ----------
    index : int
        Place of the recording in the sequence that was given.
    """

    index: int
    value: Value | None = None
    error: BadInput | None = None

    def result(self) -> Value:
        """Return the value, or raise why there is none.

        Raises
        ------
        BadInput
        """
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]  # set whenever error is not


def in_order(outcomes: Iterable[Outcome[Value]]) -> list[Value]:
    """Return the results in the order of the recordings that were given.

    Raises
    ------
    BadInput
        If a recording could not be used: the first that is met.
    """
    found = {outcome.index: outcome.result() for outcome in outcomes}
    return [found[index] for index in sorted(found)]


def plan_batches(seconds: Sequence[float], batch_seconds: float) -> list[list[int]]:
    """Group recordings of similar length, the longest first.

    SpeechBrain's ``DynamicBatchSampler`` groups by buckets of fixed boundaries; with
    few recordings most of its batches are small.

    Arguments
    ---------
    seconds : sequence
        Duration of each recording.
    batch_seconds : float
        Most seconds of a batch, padding included. A longer recording is a batch of its
        own, and so is one that is encoded in windows.

    Returns
    -------
    list
        Indices of each batch.

    Example
    -------
    >>> plan_batches([1.0, 5.0, 2.0, 4.0], batch_seconds=10)
    [[1, 3], [2, 0]]
    """
    batches: list[list[int]] = []
    for start in range(0, len(seconds), POOL):
        pool = range(start, min(start + POOL, len(seconds)))
        room = 0.0
        for index in sorted(pool, key=lambda index: -seconds[index]):
            if room >= 1:
                batches[-1].append(index)
                room -= 1
                continue
            batches.append([index])
            longest = max(seconds[index], 1e-3)
            room = 0 if longest > LONGEST else batch_seconds / longest - 1
    return batches


class BatchEncoder:
    """Encodes recordings with a front end and a function, alone or in batches.

    The results are those of each recording alone to about 1e-6.

    Arguments
    ---------
    frontend : FrontEnd
    reader : RecordingReader
    encode : callable
        (B, T, D) frames, (B,) lengths -> (B, T, ...)
    device : torch.device
        Where ``encode`` computes.
    """

    def __init__(
        self,
        *,
        frontend: FrontEnd,
        reader: RecordingReader,
        encode: Encode,
        device: torch.device,
    ) -> None:
        self.frontend, self.reader, self.encode = frontend, reader, encode
        self.device = device

    def one(self, recording: Recording) -> torch.Tensor:
        """Encode one recording, in overlapping windows if it is longer than 2 minutes.

        Returns
        -------
        torch.Tensor
            (T, ...) on the CPU.

        Raises
        ------
        BadInput
            If it cannot be read, or the memory is too small for it.
        """
        return self._alone(recording, self.reader(recording))

    def many(
        self, recordings: Iterable[Recording], batch_seconds: float = BATCH_SECONDS
    ) -> Iterator[Outcome[torch.Tensor]]:
        """Encode many recordings; their outcomes come as they are done.

        Arguments
        ---------
        recordings : iterable
        batch_seconds : float
            Most seconds of audio in a batch, padding included.

        Yields
        ------
        Outcome
            (T, ...) on the CPU, or why there is none.

        Raises
        ------
        BadInput
            If ``batch_seconds`` is not positive, or one file is given, not many.
        """
        recordings = listed(recordings)
        if not batch_seconds > 0:
            raise BadInput(f"batch_seconds {batch_seconds:g}: give seconds above 0")
        with ThreadPoolExecutor(READERS) as pool:
            seconds = list(pool.map(self.reader.seconds, recordings))
        plan = plan_batches(seconds, batch_seconds)

        def read(index: int) -> torch.Tensor | BadInput:
            try:
                return self.reader(recordings[index])
            except BadInput as error:
                return error

        for batch, signals in read_ahead(plan, read):
            readable = {}
            for index, signal in zip(batch, signals, strict=True):
                if isinstance(signal, BadInput):
                    yield Outcome(index, error=signal)
                else:
                    readable[index] = signal
            yield from self._outcomes(recordings, readable)

    def _outcomes(self, recordings, signals):
        if len(signals) > 1:
            try:
                encoded = self._together(list(signals.values()))
            except (MemoryError, OSError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
            else:
                yield from map(Outcome, signals, encoded)
                return
        for index, signal in signals.items():
            try:
                yield Outcome(index, self._alone(recordings[index], signal))
            except BadInput as error:
                yield Outcome(index, error=error)

    @torch.no_grad()
    def _together(self, signals):
        wavs, wav_lens = batch_pad_right(signals)
        frames, lengths = self.frontend(wavs.to(self.device), wav_lens.to(self.device))
        states = self.encode(frames, lengths).cpu()
        # Copies, because a view would keep the padding of the whole batch.
        rows = zip(states, lengths.tolist(), strict=True)
        return [row[:length].clone() for row, length in rows]

    @torch.no_grad()
    def _alone(self, recording, signal):
        try:
            wavs = signal.unsqueeze(0).to(self.device)
            frames = self.frontend(wavs, torch.ones(1, device=self.device))
            frame_ms = self.frontend.frame_ms
            return encode_in_windows(self.encode, frames, frame_ms)[0].cpu()
        except (MemoryError, OSError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            seconds = len(signal) / self.frontend.sample_rate
            raise BadInput(
                f"cannot encode {named(recording)}, {seconds:.0f} s "
                f"({printable(str(error))})"
            ) from error


def read_ahead(
    batches: Iterable[list[int]], read: Callable[[int], Value]
) -> Iterator[tuple[list[int], list[Value]]]:
    """Read batches in threads, a few ahead of the one that is used.

    Arguments
    ---------
    batches : iterable
        Indices of each batch.
    read : callable
        index -> what is read

    Yields
    ------
    tuple
        The indices of a batch, and what was read.

    Example
    -------
    >>> list(read_ahead([[0, 1], [2]], lambda index: index * 10))
    [([0, 1], [0, 10]), ([2], [20])]
    """
    pool = ThreadPoolExecutor(READERS)
    waiting: deque[tuple[list[int], list[Future[Value]]]] = deque()
    try:
        for batch in batches:
            waiting.append((batch, [pool.submit(read, index) for index in batch]))
            if len(waiting) > AHEAD:
                first, futures = waiting.popleft()
                yield first, [future.result() for future in futures]
        for first, futures in waiting:
            yield first, [future.result() for future in futures]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
