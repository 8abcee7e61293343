"""The list of the utterances that were drawn from YODAS, on disk."""

import gzip
import json
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from speechbrain_birq.checkpoints.files import replacing, write
from speechbrain_birq.data.corpora.yodas.hub import RemoteFile
from speechbrain_birq.data.corpora.yodas.sampling import Archive, Drawn
from speechbrain_birq.errors import BadInput


class UtteranceList:
    """The list on disk: two files.

    ``selection.json`` says how the list was drawn and from which archives,
    ``selection.tsv.gz`` has a line for each utterance (some 11 bytes packed).

    Arguments
    ---------
    folder : Path
        Where the two files are, or will be.
    """

    def __init__(self, folder: Path):
        self.summary_file = folder / "selection.json"
        self.list_file = folder / "selection.tsv.gz"

    def exists(self) -> bool:
        """Return whether both files are there."""
        return self.summary_file.exists() and self.list_file.exists()

    def save(
        self,
        settings: Mapping[str, Any],
        commit: str,
        archives: Iterable[Archive],
        drawn: Iterable[Drawn],
    ) -> None:
        """Write both files, each atomically.

        Arguments
        ---------
        settings : mapping
            What the list depends on.
        commit : str
            Commit of the dataset.
        archives : iterable of Archive
            Only those that something is drawn from are kept.
        drawn : iterable of Drawn
            Those of an archive in a row.
        """
        by_name = {archive.name: archive for archive in archives}
        kept = []
        with (
            replacing(self.list_file) as partial,
            open(partial, "wb") as raw,
            # Without name and time, so that the same draw gives the same bytes.
            gzip.GzipFile("", "wb", 6, raw, 0) as file,
        ):
            for name, rows in groupby(drawn, lambda row: row.archive):
                seconds: dict[str, list[float]] = {"dev": [], "train": []}
                for row in rows:
                    file.write("\t".join(map(str, row)).encode() + b"\n")
                    seconds[row.split].append(row.seconds)
                kept.append(_summary(by_name[name], seconds))
        summary = {"settings": settings, "commit": commit, "archives": kept}
        write(self.summary_file, json.dumps(summary, indent=1) + "\n")

    def load(self) -> dict[str, Any]:
        """Read ``selection.json``; the archives' files become ``RemoteFile``.

        Raises
        ------
        BadInput
            If it is corrupt.
        """
        try:
            summary = json.loads(self.summary_file.read_text(encoding="utf-8"))
            for archive in summary["archives"]:
                archive["audio"] = RemoteFile(*archive["audio"])
                archive["text"] = RemoteFile(*archive["text"])
            return summary | {"settings": dict(summary["settings"])}
        except (ValueError, TypeError, KeyError) as error:
            raise BadInput(_corrupt(self.summary_file)) from error

    def utterances(self) -> Iterator[tuple[str, dict[str, str]]]:
        """Yield archive after archive: (name, {utterance: split}).

        Raises
        ------
        BadInput
            Where the list is corrupt.
        """
        try:
            with gzip.open(self.list_file, "rt", encoding="utf-8") as file:
                rows = (line.rstrip("\n").split("\t") for line in file)
                for name, group in groupby(rows, lambda row: row[0]):
                    yield name, {utterance: split for _, split, utterance, _ in group}
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise BadInput(_corrupt(self.list_file)) from error


def _corrupt(file):
    return f"{file} is corrupt: delete its folder and begin again"


def _summary(archive, seconds):
    return {
        "name": archive.name,
        "audio": archive.audio,
        "text": archive.text,
        "utterances": sum(map(len, seconds.values())),
        "hours": {s: math.fsum(part) / 3600 for s, part in seconds.items()},
    }
