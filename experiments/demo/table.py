"""Table of the demo's kept seeds: ``birq demo demo_0 --seed 0`` wrote each of them.

::

    for seed in 0 1 2 3 4; do birq demo demo_$seed --seed $seed; done
    cp demo_0/demo.json experiments/demo/0.json    # and so on
    python experiments/demo/table.py
"""

import json
import statistics
from pathlib import Path

HERE = Path(__file__).parent


def table(records: list[dict]) -> str:
    """Format a Markdown table: a row for each seed, then the means."""
    arms = [row["arm"] for row in records[0]["rows"]]
    gains = [f"{arm} against {arms[0]}" for arm in arms[1:]]
    lines = ["| seed | " + " | ".join([*(f"{a}, CER %" for a in arms), *gains]) + " |"]
    lines.append("|---" * (1 + len(arms) + len(gains)) + "|")
    rates = []
    for record in records:
        rates.append([row["cer"] for row in record["rows"]])
        lines.append(_line(record["seed"], rates[-1], relative(rates[-1])))
    means = [statistics.mean(column) for column in zip(*rates, strict=True)]
    mean_gains = zip(*map(relative, rates), strict=True)
    lines.append(_line("mean", means, [statistics.mean(gain) for gain in mean_gains]))
    return "\n".join(lines)


def relative(rates: list[float]) -> list[float]:
    """Return the change of each rate against the first one, in percent."""
    return [100 * (rate / rates[0] - 1) for rate in rates[1:]]


def _line(name, rates, gains):
    cells = [name, *(f"{rate:.1f}" for rate in rates)]
    return f"| {' | '.join(map(str, cells + [f'{gain:+.1f} %' for gain in gains]))} |"


def main() -> None:
    """Print the table of the kept seeds."""
    paths = sorted(HERE.glob("*.json"))
    print(table([json.loads(path.read_text()) for path in paths]))


if __name__ == "__main__":
    main()
