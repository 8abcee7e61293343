"""What the published weights fine-tune to: the kept figures, and their table.

::

    birq finetune ...    # as a kept file says
    python experiments/weights/finetuned.py RUN birq_tiny    # keep its figures
    python experiments/weights/finetuned.py                  # print the table
"""

import csv
import json
import shlex
import sys
from pathlib import Path

import numpy as np

from speechbrain_birq.checkpoints.run_folder import read_stored
from speechbrain_birq.checkpoints.stored_values import scalar_value
from speechbrain_birq.metrics import read_metrics
from speechbrain_birq.metrics.significance import (
    Difference,
    difference,
    interval_text,
)

FOLDER = Path(__file__).with_name("finetuned")
SCRATCH = "scratch"
COMMAND = """birq finetune ctc_tiny --data_folder so762 --number_of_epochs 24 \\
    --batch_seconds 30 --dropout 0.2 --warmup_epochs 4 --hold_epochs 13 --lr 0.002"""
PRETRAINED = """ \\
    --pretrained {name} --fresh_layers 2 --lr_encoder 0.001"""


def keep(run: Path, name: str) -> None:
    """Keep the figures of a fine-tuning that started from published weights.

    Arguments
    ---------
    run : Path
        Run folder of the fine-tuning.
    name : str
        Name of the weights, or "scratch".
    """
    settings = checked_settings(run, name)
    best = min(read_metrics(run, "valid"), key=lambda row: row["cer"])
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    with open(run / "errors_test.csv", newline="", encoding="utf-8") as file:
        errors = {
            row["id"]: [int(row["character_errors"]), int(row["characters"])]
            for row in csv.DictReader(file)
        }
    record = {
        "command": command(name),
        "seed": settings["seed"],
        "steps": results["steps"],
        "seconds": results["seconds"],
        "dev": {key: best[key] for key in ("step", "loss", "cer", "wer")},
        "test": results["test"],
        "errors": errors,
    }
    text = json.dumps(record) + "\n"
    (FOLDER / f"{name}.json").write_text(text, encoding="utf-8")


def checked_settings(run: Path, name: str) -> dict:
    """Read the keys of a run; refuse one that the command has not started."""
    words = shlex.split(command(name).replace("\\\n", ""))[3:]
    pairs = zip(words[::2], words[1::2], strict=True)
    wanted = {key.removeprefix("--"): scalar_value(value) for key, value in pairs}
    settings = read_stored(run / "hyperparams.yaml").scalars()
    for key, value in ({"pretrained": None} | wanted).items():
        if key != "data_folder" and settings[key] != value:
            sys.exit(f"error: {run} has {key}: {settings[key]}, the command {value}")
    return settings


def command(name: str) -> str:
    """Return the command of a fine-tuning."""
    return COMMAND + (PRETRAINED.format(name=name) if name != SCRATCH else "")


def read(name: str) -> dict:
    """Read the kept figures of a fine-tuning; empty if there are none."""
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def against_scratch(name: str) -> Difference:
    """Compare a fine-tuning with training from scratch, over the test utterances."""
    ours, theirs = read(name)["errors"], read(SCRATCH)["errors"]
    rows = [(ours[key][0], theirs[key][0], ours[key][1]) for key in sorted(ours)]
    return difference(*np.array(rows).T)


def table(names: list[str]) -> str:
    """Format a Markdown table: training from scratch, then from the weights."""
    lines = [
        "| start | lowest CER on dev, % (update) | CER on test, % | WER on test, % "
        "| against scratch, CER (95 % interval) |",
        "|---|---|---|---|---|",
    ]
    for name in (SCRATCH, *names):
        record, gain = read(name), ""
        if name != SCRATCH:
            found = against_scratch(name)
            bounds = interval_text(found.low, found.high, sign="+")
            gain = f"{found.first - found.second:+.2f} ({bounds})"
        dev, test = record["dev"], record["test"]
        lines.append(
            f"| {name} | {dev['cer']:.1f} ({dev['step']:,}) | {test['cer']:.1f} "
            f"| {test['wer']:.1f} | {gain} |"
        )
    return "\n".join(lines)


def section(name: str) -> str:
    """Format what the card says about a fine-tuning of these weights."""
    if not read(name):
        return "No recogniser was trained from these weights."
    found = against_scratch(name)
    verdict = "do not tell the two apart"
    if found.low > 0:
        verdict = "show these weights to be worse than none"
    elif found.high < 0:
        verdict = "show these weights to be better than none"
    rates = " and ".join(f"{read(n)['test']['wer']:.0f} %" for n in (SCRATCH, name))
    return f"""\
A recogniser trained from these weights on 22 min of speechocean762 with texts, scored
on 4.5 min (79 utterances of 7 speakers who are in no other split) with greedy decoding
and no language model; one run, seed 1234:

```
{command(name)}
```

{table([name])}

In CER, the test utterances {verdict}. The word error rates, {rates}, say that
neither is of use."""


def main() -> None:
    """Keep the figures of a run, or print the table of all."""
    if len(sys.argv) == 3:
        keep(Path(sys.argv[1]), sys.argv[2])
    else:
        print(table(sorted({p.stem for p in FOLDER.glob("*.json")} - {SCRATCH})))


if __name__ == "__main__":
    main()
