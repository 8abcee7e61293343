"""Reading back what a run has logged."""

import json
from pathlib import Path


def read_metrics(folder, stage=None) -> list[dict]:
    """Reports of a run folder, oldest first.

    Arguments
    ---------
    folder : str or Path
    stage : str, optional
        ``train`` or ``valid`` only.
    """
    path = Path(folder) / "metrics.jsonl"
    if not path.is_file():
        return []
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return [row for row in rows if stage in (None, row["stage"])]
