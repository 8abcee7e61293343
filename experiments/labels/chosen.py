"""Compare arms, each fine-tuned at the rate that dev chooses for it.

    python chosen.py live_kept live_kept_5e4 live_kept_2e4

The plans differ in the fine-tuning only. Of each arm and seed, the piece whose lowest
CER on dev is lowest among the plans is taken; pieces that are not stored for every plan
are left out. Prints the table of the pieces that were taken, and where they are from.
"""

import argparse
import json
import statistics
from pathlib import Path

import ruamel.yaml
import table


def main():
    """Print the table of the chosen pieces, and one of their plans."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("plans", nargs="+", help="names; the first gives the arms")
    names = parser.parse_args().plans
    folder = Path(__file__).parent
    for name in names:
        if not (folder / f"{name}.yaml").is_file():
            parser.error(f"no plan {name} in {folder}")
    pieces = {name: stored(folder / name) for name in names}
    plan = ruamel.yaml.YAML(typ="safe").load(folder / f"{names[0]}.yaml")
    chosen = choose(pieces)
    records = [pieces[name][key] for key, name in chosen.items()]
    print(table.table(plan, records), sources(plan, records, chosen), sep="\n\n")


def stored(folder) -> dict:
    """Return {(arm, seed): record} of a folder's pieces that have a rate on dev."""
    records = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    return {(r["arm"], r["seed"]): r for r in records if "dev_cer" in r}


def choose(pieces) -> dict:
    """Return {(arm, seed): plan with the lowest CER on dev} of what all plans have.

    Arguments
    ---------
    pieces : dict
        {plan: {(arm, seed): record}}.
    """
    common = set.intersection(*(set(found) for found in pieces.values()))
    return {
        key: min(pieces, key=lambda name: on_dev(pieces[name][key]))
        for key in sorted(common)
    }


def on_dev(record) -> float:
    """Return the mean over fine-tunings of the lowest CER on dev."""
    return statistics.mean(record["dev_cer"])


def sources(plan, records, chosen) -> str:
    """Format a table of the chosen plans, with the CER on dev and on test."""
    lines = ["| arm | seed: chosen plan, CER on dev, on test, % |", "|---|---|"]
    for arm, found in table.by_arm(plan, records).items():
        cells = [
            f"{seed}: {chosen[arm, seed]}, {on_dev(piece):.1f}, {table.rate(piece):.1f}"
            for seed, piece in found.items()
        ]
        lines.append(f"| {arm} | {'; '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
