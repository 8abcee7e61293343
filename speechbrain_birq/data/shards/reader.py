"""Reads shards: the index at the start, everything else when it is needed."""

import io
import logging
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from speechbrain_birq.data.audio_checks import LoggedOnce
from speechbrain_birq.data.shards.index import (
    Label,
    one_line,
    read_column,
    read_index,
    read_labels,
    read_table,
)
from speechbrain_birq.data.shards.recently_used import RecentlyUsed
from speechbrain_birq.data.shards.storage import LARGEST, Piece, is_url, read_pieces
from speechbrain_birq.data.shards.writer import TABLE
from speechbrain_birq.data.split_places import places
from speechbrain_birq.data.texts import TextCleaning
from speechbrain_birq.errors import BadInput

logger = logging.getLogger(__name__)

# Utterances whose tables and cuts a process keeps, some 20 MB; a window of batches
# (``batches.WINDOW``) takes a third of it.
KEPT = 50_000


def find_shards(data_folder: str | Path | None, split: str) -> "Shards | None":
    """Find the shards of a split.

    Arguments
    ---------
    data_folder : str or Path, optional
        Folder or URL above the splits that are not paths.
    split : str
        "+" joins several.

    Returns
    -------
    Shards or None
        None if the split is a folder of audio files.

    Raises
    ------
    BadInput
        If the index cannot be read, writing is not finished, or some of the joined
        splits are shards and others are not; or as ``places``.
    """
    found = places(data_folder, split)
    roots = [f"{place.folder.rstrip('/')}/{place.name}" for place in found]
    sharded = [is_url(root) or _has_shards(Path(root)) for root in roots]
    if not any(sharded):
        return None
    if not all(sharded):
        raise BadInput(
            f"the split {split!r} joins shards and audio files "
            f"({', '.join(roots)}): make shards of all with `birq shard`"
        )
    return Shards(roots)


def _has_shards(folder):
    if (folder / "tables").is_dir() and not (folder / "index.json").is_file():
        raise BadInput(
            f"the shards in {folder} are not finished: give the command that writes "
            f"them again"
        )
    return (folder / "index.json").is_file()


class Shards:
    """Utterances of one or more folders of shards, numbered from 0.

    They take 4 bytes of memory each; the table and the cuts of a shard are read when
    one of its utterances is.

    Arguments
    ---------
    roots : list of str
        Folders or URLs, each with an ``index.json``.

    Raises
    ------
    BadInput
        If an index cannot be read or the folders have several sampling rates.
    """

    def __init__(self, roots: list[str]):
        indexes = [read_index(root) for root in roots]
        rates = {index["sample_rate"] for index in indexes}
        if len(rates) > 1:
            raise BadInput(
                f"{', '.join(roots)} have several rates ({', '.join(map(str, rates))} "
                f"Hz): join splits of one rate"
            )
        self.roots, (self.sample_rate,) = roots, rates
        self.places = [
            (root, shard["name"])
            for root, index in zip(roots, indexes, strict=True)
            for shard in index["shards"]
        ]
        sizes = [shard["utterances"] for index in indexes for shard in index["shards"]]
        self.first = np.cumsum([0, *sizes])  # number of each shard's first utterance
        self.samples = self._column("samples.npy", TABLE["samples"])
        self._tables = RecentlyUsed(read_table, KEPT)
        self._labels = RecentlyUsed(read_labels, KEPT)
        self._without_labels = LoggedOnce()
        self.cleaning = TextCleaning()  # of transcripts; a run sets its own

    def __len__(self):
        return int(self.first[-1])

    def __str__(self):
        return " + ".join(self.roots)

    def fingerprint(self) -> int:
        """Return a number that copies share: of all lengths, shard by shard."""
        return zlib.crc32(self.samples.tobytes(), zlib.crc32(self.first.tobytes()))

    def has_text(self) -> np.ndarray:
        """Return which utterances have a transcript: (utterances,) bool."""
        return self._column("texts.npy", TABLE["text"])

    def texts(self, clean: bool = True) -> Iterator[str]:
        """Yield all transcripts that are not empty, shard after shard.

        Arguments
        ---------
        clean : bool
            As ``cleaning`` makes them, or as they are stored.

        Raises
        ------
        BadInput
            If the cuts of a shard cannot be read.
        """
        for (root, name), size in zip(self.places, np.diff(self.first), strict=True):
            try:
                labels = self._labels.get(root, name, int(size))
            except ValueError as error:
                raise BadInput(
                    f"{root}: cuts of shard {name} unreadable ({one_line(error)})"
                ) from error
            for label in labels:
                text = self.cleaning(label.text) if clean else label.text
                if text:
                    yield text

    def label(self, number: int) -> Label:
        """Return name, speaker and transcript of an utterance.

        If the cuts cannot be read, its audio is still used: under a name made of the
        shard's, without a transcript.
        """
        (root, name), row = self._place(number)
        try:
            label = self._labels.get(root, name, self._size(number))[row]
            return label._replace(text=self.cleaning(label.text))
        except ValueError as error:
            if self._without_labels.number(f"{root} {name}"):
                logger.warning(
                    "cuts of shard %s in %s unreadable (%s)", name, root, error
                )
            return Label(f"{name}-{row}", "", "")

    def name(self, number: int) -> str:
        """Return where an utterance lies, for messages."""
        return f"{self._file(number)} (utterance {self._place(number)[1]})"

    def audio(
        self, numbers: Sequence[int]
    ) -> list[tuple[str, io.BytesIO | OSError | ValueError]]:
        """Read encoded audio.

        Returns
        -------
        list
            For each number (name, ``BytesIO`` or the error). If a whole shard is
            missing, the name is that of its file, so that it is logged once.
        """
        pieces = self._pieces(numbers)
        found = iter(read_pieces([p for p in pieces if isinstance(p, tuple)]))
        return [
            self._named(number, next(found) if isinstance(piece, tuple) else piece)
            for number, piece in zip(numbers, pieces, strict=True)
        ]

    def _named(self, number, data):
        if isinstance(data, bytes):
            return self.name(number), io.BytesIO(data)
        missing = isinstance(data, (FileNotFoundError, ValueError))
        return (self._file(number) if missing else self.name(number)), data

    def _pieces(self, numbers: Sequence[int]) -> list[Piece | ValueError | OSError]:
        """Where the audio of utterances lies, or why nobody knows."""
        # Once a shard and call: a server that fails is tried for seconds each time.
        examples = {self._shard(number): number for number in numbers}
        tables = {shard: self._table(number) for shard, number in examples.items()}
        return [self._piece(number, tables[self._shard(number)]) for number in numbers]

    def _table(self, number):
        (root, name), _ = self._place(number)
        try:
            return self._tables.get(root, name, self._size(number))
        except ValueError as error:
            return error

    def _piece(self, number, table):
        if isinstance(table, ValueError):
            return table
        (root, name), row = self._place(number)
        start, size = int(table[row]["start"]), int(table[row]["size"])
        if size > LARGEST:
            return OSError(f"its table gives it {size} bytes")
        return root, f"shar/recording.{name}.tar", start, size

    def _file(self, number):
        (root, name), _ = self._place(number)
        return f"{root}/shar/recording.{name}.tar"

    def _place(self, number):
        """(root, shard), row"""
        shard = self._shard(number)
        return self.places[shard], int(number - self.first[shard])

    def _size(self, number):
        """Utterances of the shard that holds this one."""
        shard = self._shard(number)
        return int(self.first[shard + 1] - self.first[shard])

    def _shard(self, number):
        return int(np.searchsorted(self.first, number, "right")) - 1

    def _column(self, file, dtype):
        try:
            columns = [read_column(root, file, dtype) for root in self.roots]
        except (OSError, ValueError) as error:
            raise BadInput(
                f"{file} of the shards in {self} unreadable: {one_line(error)}"
            ) from error
        column = columns[0] if len(columns) == 1 else np.concatenate(columns)
        if len(column) != len(self):
            raise BadInput(
                f"{file} and index.json of the shards in {self} do not belong "
                f"together: give the command that writes them again"
            )
        return column
