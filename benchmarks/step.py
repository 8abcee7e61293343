"""Compare a training step of ours with SpeechBrain's BEST-RQ: time, memory, shares.

    python benchmarks/step.py --peer_recipe BEST-RQ --json step.json
    python benchmarks/step.py --quick                 # four arms, under 90 s
    python benchmarks/step.py --size base --device cuda --batch 16 --seconds 12.5 \
        --arms peer_bf16 best_rq_bf16 best_rq_compiled_bf16 birq_0.7_bf16

Each arm has its own process. In each round, every arm of a group makes one step while
the others wait, so that other load on the machine affects all arms alike. Figures are
medians over the rounds; a ratio is the median of the ratios in each round. Both systems
get the same padded waveforms and mask the same frames. ``--peer_recipe`` is the folder
of SpeechBrain's recipe (see ``peer.py``).
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

from workers import Workers

QUICK = ("peer", "best_rq_relpos", "best_rq", "birq_0.7")
SLOW = ("best_rq_compiled", "best_rq_compiled_bf16")  # minutes to compile on a CPU
NOT_TIMED = ("birq_0.7_block",)  # of waits.py
COLUMNS = (
    ("arm", "{:22}"),
    ("M par.", "{:>8.1f}"),
    ("frames", "{:>8}"),
    ("masked", "{:>8}"),
    ("wall s", "{:>8.3f}"),
    ("CPU s", "{:>8.3f}"),
    ("audio s/s", "{:>10.1f}"),
    ("x peer", "{:>8.2f}"),
    ("CPU x", "{:>8.2f}"),
    ("cost", "{:>7.2f}"),
    ("limit", "{:>7.2f}"),
    ("GB", "{:>7.2f}"),
    ("MFU %", "{:>7.1f}"),
)


def main():
    """Measure, print and write the figures."""
    options = arguments()
    measured, rows = [], {}
    for names in groups(options.arms):
        measured.append(measure(names, options))
        new = [name for name in names if name not in rows]
        rows |= {name: row(name, options, measured[-1]) for name in new}
    rows = [rows[name] for name in options.arms]
    report(rows, options, measured)
    if options.json:
        result = {"options": vars(options), "measured": measured, "rows": rows}
        Path(options.json).write_text(json.dumps(result, indent=1) + "\n")
    if options.quick:
        sys.exit(verdict(rows))


def groups(names) -> list:
    """Split the arms into groups that are measured together and fit into memory.

    The arms of a group have the same number of codes and the same precision. A group
    of BiRQs also has the peer and the BEST-RQ that they are compared with.
    """
    from arms import ARMS

    found = {}
    for name in names:
        arm = ARMS[name]
        found.setdefault((arm.num_codes, arm.precision, arm.system == "birq"), [])
        found[arm.num_codes, arm.precision, arm.system == "birq"].append(name)
    for kind, members in found.items():
        if kind[2]:
            needed = [reference(ARMS[one], names) for one in members]
            needed = dict.fromkeys(name for pair in needed for name in pair if name)
            found[kind] = [*needed, *members]
    return list(found.values())


def reference(arm, names) -> tuple:
    """Return the peer and the BEST-RQ that an arm is compared with; None if missing."""
    peer = arm._replace(**PEER_OF)
    twin = arm._replace(system="best_rq", **TWIN_OF)
    return _named(peer, names), _named(twin, names)


def measure(names, options) -> dict:
    """Run the arms of a group in turn and return what they measured."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Workers(names, options, folder) as workers,
    ):
        return {
            "built": workers.ask_all("build"),
            "rounds": [workers.ask_all("step") for _ in range(options.rounds)],
            "memory": workers.ask_all("memory"),
            "operations": workers.ask_all("operations"),
            "shares": {} if options.no_shares else workers.ask_all("shares"),
        }


def arguments():
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arms", nargs="+", help="names in arms.py; default: all")
    parser.add_argument(
        "--size", default="small", help="size of the encoder, a name in arms.py"
    )
    parser.add_argument("--batch", type=int, default=3, help="utterances in a batch")
    parser.add_argument(
        "--seconds", type=float, default=12.0, help="length of the longest utterance"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--peer_recipe", help="folder of SpeechBrain's BEST-RQ recipe")
    parser.add_argument("--json", help="file for the figures")
    parser.add_argument("--no_shares", action="store_true", help="no profile")
    parser.add_argument(
        "--compiled", action="store_true", help="also the compiled arms"
    )
    parser.add_argument(
        "--quick", action="store_true", help="few arms; fails if ours is slower"
    )
    options = parser.parse_args()
    from arms import ARMS, SIZES

    if options.size not in SIZES:
        parser.error(f"--size takes one of {', '.join(SIZES)}")
    if options.quick:
        options.arms = options.arms or list(QUICK)
        options.size, options.no_shares = "tiny", True
    left_out = NOT_TIMED if options.compiled else NOT_TIMED + SLOW
    options.arms = options.arms or [name for name in ARMS if name not in left_out]
    for name in options.arms:
        if name not in ARMS:
            parser.error(f"--arms: no {name!r} among {', '.join(ARMS)}")
    return options


def row(name, options, measured) -> dict:
    """Compute the figures of one arm."""
    from arms import ARMS, SIZES

    rounds, operations = measured["rounds"], measured["operations"][name]
    wall, cpu = (
        statistics.median(one[name][column] for one in rounds)
        for column in ("wall", "cpu")
    )
    size, arm = SIZES[options.size], ARMS[name]
    used = [
        operations / one[name]["wall"] / one["peak"][arm.precision] for one in rounds
    ]
    found = {
        "arm": name,
        **measured["built"][name],
        "wall s": wall,
        "CPU s": cpu,
        "audio s/s": options.batch * options.seconds / wall,
        "GB": measured["memory"][name],
        "operations": operations,
        "MFU %": 100 * statistics.median(used),
        "shares": measured["shares"].get(name),
    }
    peer, twin = reference(arm, options.arms)
    if arm.system != "peer" and peer:
        found["x peer"] = ratio(rounds, peer, name, "wall")
        found["CPU x"] = ratio(rounds, peer, name, "cpu")
    if arm.system == "birq" and twin:
        k = arm.label_layer(size) / size.num_layers
        found["cost"] = ratio(rounds, name, twin, "wall")
        found["limit"] = 1.05 * (1 + (k if arm.gradient else k / 3))
    return found


PEER_OF = dict(
    system="peer",
    attention="RelPosMHAXL",
    convolutional=True,
    num_codebooks=1,
    label_depth=0.7,
    gradient=True,
    compiled=False,
)
TWIN_OF = dict(label_depth=0.7, gradient=True)


def _named(arm, names):
    from arms import ARMS

    return next((name for name in names if ARMS[name] == arm), None)


def ratio(rounds, slow, quick, column) -> float:
    """Return the median over the rounds of one arm's value divided by another's."""
    return statistics.median(one[slow][column] / one[quick][column] for one in rounds)


def report(rows, options, measured):
    """Print the tables."""
    peaks = [one["peak"]["fp32"] / 1e9 for m in measured for one in m["rounds"]]
    print(
        f"{options.size}: {options.batch} x {options.seconds} s, {options.device}, "
        f"{options.threads} threads, {options.rounds} rounds; a matrix product runs at "
        f"{statistics.median(peaks):.0f} GFLOP/s in fp32"
    )
    print("".join(_width(form).format(title) for title, form in COLUMNS))
    for one in rows:
        cells = (
            form.format(one[title]) if title in one else _width(form).format("")
            for title, form in COLUMNS
        )
        print("".join(cells))
    if any(one["shares"] for one in rows):
        _report_shares(rows)


def _report_shares(rows):
    names = list(dict.fromkeys(name for one in rows for name in one["shares"] or ()))
    print("\nshare of a profiled step, %\n" + f"{'arm':22}", end="")
    print("".join(f"{name:>15}" for name in names))
    for one in rows:
        if one["shares"]:
            cells = (f"{100 * one['shares'].get(n, 0):15.1f}" for n in names)
            print(f"{one['arm']:22}" + "".join(cells))


def _width(form):
    """Return the format of a column for a text."""
    return form.split(".")[0].rstrip("}") + "}"


def verdict(rows) -> int:
    """Return 1 if ours is slower than SpeechBrain's with the same attention."""
    same = next(one for one in rows if one["arm"] == "best_rq_relpos")
    # CPU seconds do not count other processes of the machine.
    print(f"same attention: {same['CPU x']:.2f} times SpeechBrain's; at least 1.00")
    return int(same["CPU x"] < 1)


if __name__ == "__main__":
    main()
