"""What the layers of a run know of the phones; the kept figures as tables.

    birq diagnose RUN --data_folder high --split test --output_folder diagnosis
    python experiments/diagnosis/layers.py RUN --data_folder high --name best_rq
    python experiments/diagnosis/layers.py --table

The second command fits ``birq phones`` on test and scores it on train, keeps what it
finds together with ``diagnosis/diagnosis.json`` in ``<name>.json`` beside this
file (or in ``--kept FOLDER``), and prints the tables of all that is kept there.
"""

import argparse
import json
from pathlib import Path

HERE = Path(__file__).parent
# Rows of diagnosis.json that the table shows, where a run has them.
LABELS = {"anchor": "anchors", "enhanced": "enhanced labels"}
LABELS |= {"k-means, frames": "k-means, frames", "k-means, layer 2": "k-means, layer 2"}


def main() -> None:
    """Keep the figures of a run, if one is given, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?", help="run folder of a pretraining")
    parser.add_argument("--data_folder", type=Path, help="made by birq minispeech")
    parser.add_argument("--diagnosis", type=Path, default=Path("diagnosis"))
    parser.add_argument("--name", help="of the row")
    parser.add_argument("--kept", type=Path, default=HERE, help="folder of the figures")
    parser.add_argument("--table", action="store_true", help="only the tables")
    options = parser.parse_args()
    if not options.table:
        if not (options.run and options.data_folder and options.name):
            parser.error("RUN, --data_folder and --name are missing, or --table")
        keep(options)
    paths = options.kept.glob("*.json")
    kept = {path.stem: json.loads(path.read_text()) for path in paths}
    kept = dict(sorted(kept.items(), key=lambda one: (one[1]["steps"], one[0])))
    print(phones_table(kept), information_table(kept), sep="\n\n")


def keep(options):
    """Write <name>.json."""
    from speechbrain_birq.diagnostics.phones import accuracy_by_layer

    found = json.loads((options.diagnosis / "diagnosis.json").read_text())
    rows = {
        name: {key: round(row[key], 4) for key in ("pnmi", "chance", "used_codes")}
        for name, row in found["rows"].items()
    }
    train, test = options.data_folder / "test", options.data_folder / "train"
    accuracy = accuracy_by_layer(options.run, train, test)._asdict()
    results = json.loads((Path(options.run) / "results.json").read_text())
    record = {"steps": results["steps"], "frames": found["frames"]}
    record |= {"labels": rows, "phones": accuracy}
    path = options.kept / f"{options.name}.json"
    path.write_text(json.dumps(record, indent=1) + "\n")


def phones_table(kept: dict[str, dict]) -> str:
    """Accuracy of the linear classifier of phones, in percent."""
    depth = max(len(one["phones"]["layers"]) for one in kept.values()) - 1
    head = ["run", "steps", "stacked frames", "input projection"]
    lines = [*_head([*head, *(f"layer {n}" for n in range(1, depth + 1))])]
    for name, one in kept.items():
        shares = (one["phones"]["frames"], *one["phones"]["layers"])
        lines.append(
            _row([name, f"{one['steps']:,}", *(f"{100 * s:.1f}" for s in shares)])
        )
    return "\n".join(lines)


def information_table(kept: dict[str, dict]) -> str:
    """PNMI of the labels, in brackets with the phones shuffled."""
    lines = [*_head(["run", "steps", *LABELS.values()])]
    for name, one in kept.items():
        cells = [_pnmi(one["labels"].get(label)) for label in LABELS]
        lines.append(_row([name, f"{one['steps']:,}", *cells]))
    return "\n".join(lines)


def _pnmi(row):
    return f"{row['pnmi']:.3f} ({row['chance']:.3f})" if row else ""


def _head(names):
    return _row(names), "|---" * len(names) + "|"


def _row(cells):
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
