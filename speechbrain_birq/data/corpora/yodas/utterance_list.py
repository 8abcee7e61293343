"""The list of the utterances that were drawn from YODAS, on disk."""

import gzip
import json
import math
import zlib
from itertools import groupby

from speechbrain_birq.data.corpora.yodas.hub import RemoteFile
from speechbrain_birq.errors import BadInput


class UtteranceList:
    """The saved list: ``selection.json`` says how it was drawn and from which archives,
    ``selection.tsv.gz`` has a line for each utterance (some 11 bytes packed).

    Arguments
    ---------
    folder : Path
        Where the two files are, or will be.
    """

    def __init__(self, folder):
        self.summary_file = folder / "selection.json"
        self.list_file = folder / "selection.tsv.gz"

    def exists(self) -> bool:
        return self.summary_file.exists() and self.list_file.exists()

    def save(self, settings, commit, archives, drawn) -> None:
        """Write both files, whole or not at all.

        Arguments
        ---------
        settings : dict
            What the list depends on.
        commit : str
            Of the dataset.
        archives : list
            Of ``Archive``; only those that something is drawn from are kept.
        drawn : iterable
            Of ``Drawn``, those of an archive in a row.
        """
        by_name = {archive.name: archive for archive in archives}
        kept, partial = [], self.list_file.with_suffix(".partial")
        with open(partial, "wb") as raw, gzip.GzipFile("", "wb", 6, raw, 0) as file:
            for name, rows in groupby(drawn, lambda row: row.archive):
                seconds = {"dev": [], "train": []}
                for row in rows:
                    file.write("\t".join(map(str, row)).encode() + b"\n")
                    seconds[row.split].append(row.seconds)
                kept.append(_summary(by_name[name], seconds))
        partial.replace(self.list_file)
        summary = {"settings": settings, "commit": commit, "archives": kept}
        partial = self.summary_file.with_suffix(".partial")
        partial.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
        partial.replace(self.summary_file)

    def load(self) -> dict:
        """What ``selection.json`` holds, its files as ``RemoteFile``.

        Raises
        ------
        BadInput
            If it is damaged.
        """
        try:
            summary = json.loads(self.summary_file.read_text(encoding="utf-8"))
            for archive in summary["archives"]:
                archive["audio"] = RemoteFile(*archive["audio"])
                archive["text"] = RemoteFile(*archive["text"])
            return summary | {"settings": dict(summary["settings"])}
        except (ValueError, TypeError, KeyError) as error:
            raise BadInput(self._damaged(self.summary_file)) from error

    def utterances(self):
        """Archive after archive: (name, {utterance: split}).

        Raises
        ------
        BadInput
            Where the list is damaged.
        """
        try:
            with gzip.open(self.list_file, "rt", encoding="utf-8") as file:
                rows = (line.rstrip("\n").split("\t") for line in file)
                for name, group in groupby(rows, lambda row: row[0]):
                    yield name, {utterance: split for _, split, utterance, _ in group}
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise BadInput(self._damaged(self.list_file)) from error

    def _damaged(self, file):
        return f"{file} is damaged: delete its folder and begin again"


def _summary(archive, seconds):
    return {
        "name": archive.name,
        "audio": archive.audio,
        "text": archive.text,
        "utterances": sum(map(len, seconds.values())),
        "hours": {s: math.fsum(part) / 3600 for s, part in seconds.items()},
    }
