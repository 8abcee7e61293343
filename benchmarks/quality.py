"""Measure time and steps to equal validation loss, for example of two optimizers.

    birq minispeech corpus --hours 3
    python benchmarks/quality.py experiments/optimizer/search.yaml --data_folder corpus
    python benchmarks/quality.py experiments/optimizer/search.yaml --table

A plan is a YAML file: ``arms`` (settings of each; ``yaml`` is a file in ``<plan>/`` or
in ``hparams/``), ``pretrain`` (settings of all), ``seeds``, ``reference`` (an arm), and
if wanted ``finetune`` with ``test_split``. A piece is one arm with one seed, on one
core. Its figures are stored beside the plan as ``<plan>/<arm>-<seed>.json``, and
finished pieces are not run again. The table has, for each arm, the last loss G, and how
many times sooner it was as low as the reference's last one with the same seed, by
validation and by the mean of each log interval of training; in brackets the smallest
and the largest value of the seeds.

Time is CPU time of the whole run, in equal parts for each step, because other load on
the machine does not change it.
"""

import json
import statistics
import sys
from pathlib import Path

import ruamel.yaml

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "experiments/labels"))

from compare import (  # noqa: E402 (its folder is no package)
    checked,
    chosen_arms,
    commit,
    machine,
    plan_parser,
    train,
    with_own_yaml,
)

from speechbrain_birq.checkpoints import files  # noqa: E402

STAGES = ("valid", "train")
TITLES = (
    *("arm", "seeds", "G, valid", "G, train", "s a step", "CPU s"),
    *("times sooner, valid", "train", "CER, % (each seed)", "mean"),
)


def main():
    """Run the missing pieces, then print the table of the stored ones."""
    options = checked(plan_parser(__doc__, "results/quality"))
    plan = ruamel.yaml.YAML(typ="safe").load(options.plan)
    kept = options.plan.with_suffix("")
    if not options.table:
        kept.mkdir(exist_ok=True)
        for seed in options.seeds or plan["seeds"]:
            for arm in chosen_arms(plan, options):
                path = kept / f"{arm}-{seed}.json"
                if not path.exists():
                    record = run_piece(arm, seed, plan, options)
                    files.write(path, json.dumps(record, indent=1) + "\n")
    records = [json.loads(path.read_text()) for path in sorted(kept.glob("*.json"))]
    print(table(plan, records))


def run_piece(arm, seed, plan, options) -> dict:
    """Pretrain an arm with a seed, fine-tune it if the plan says so; return figures."""
    folder = options.output_folder / options.plan.stem / f"{arm}-{seed}"
    common = {"data_folder": options.data_folder, "tensorboard": False}
    common |= {"device": options.device, "seed": seed}
    run, settings = folder / "pretrain", plan["pretrain"] | plan["arms"][arm]
    own = with_own_yaml(settings, options.plan.with_suffix(""))
    seconds = train("pretrain", run, own, common)
    lines = (run / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    record = {
        "arm": arm,
        "seed": seed,
        "command": f"quality.py {options.plan.name} --arms {arm} --seeds {seed}",
        "commit": commit(),
        "machine": machine(),
        "settings": settings,
        "cpu_seconds": seconds,
        "rows": [{key: row[key] for key in ("stage", "step", "G")} for row in rows],
        "cer": None,
    }
    if "finetune" in plan:
        tuned = folder / "finetune"
        settings = {"yaml": "ctc_tiny.yaml", "pretrained": run} | plan["finetune"]
        train("finetune", tuned, settings, common)
        results = json.loads((tuned / "results.json").read_text())
        record["cer"] = results[plan["test_split"]]["cer"]
    return record


def points(record, stage) -> list:
    """Return (step, G) of every line of a stage."""
    return [(r["step"], r["G"]) for r in record["rows"] if r["stage"] == stage]


def steps_to(curve, level) -> float | None:
    """Return the step at which a loss first is as low as ``level``, None if never.

    Between two validations the loss is taken for a straight line. True curves sag, so
    this is rather too late than too early.
    """
    before = None
    for step, loss in curve:
        if loss <= level:
            if before is None:
                return float(step)
            share = (before[1] - level) / (before[1] - loss)
            return before[0] + share * (step - before[0])
        before = step, loss
    return None


def per_step(record) -> float:
    """Return the CPU seconds of a step."""
    return record["cpu_seconds"] / points(record, "valid")[-1][0]


def sooner(record, reference, stage="valid") -> tuple:
    """Return steps, CPU seconds and the quotient of times to the reference's last G."""
    level = points(reference, stage)[-1][1]
    steps = steps_to(points(record, stage), level)
    if steps is None:
        return None, None, None
    seconds = steps * per_step(record)
    there = steps_to(points(reference, stage), level) * per_step(reference)
    return steps, seconds, there / seconds


def table(plan, records) -> str:
    """Return the Markdown table of all arms."""
    head = "| " + " | ".join(TITLES) + " |"
    lines = [head, "|---" * len(TITLES) + "|"]
    found = {(record["arm"], record["seed"]): record for record in records}
    for arm in plan["arms"]:
        mine = [record for record in records if record["arm"] == arm]
        pairs = [
            (record, found[plan["reference"], record["seed"]])
            for record in mine
            if (plan["reference"], record["seed"]) in found
        ]
        if mine:
            lines.append("| " + " | ".join([arm, *row(mine, pairs)]) + " |")
    return "\n".join(lines)


def row(records, pairs) -> list:
    """Return the cells of an arm, over the seeds that came so far."""
    cers = [record["cer"] for record in records if record["cer"] is not None]
    last = ([points(r, stage)[-1][1] for r in records] for stage in STAGES)
    quotients = ([sooner(*pair, stage)[2] for pair in pairs] for stage in STAGES)
    return [
        str(len(records)),
        *(spread(losses, "{:.3f}") for losses in last),
        f"{statistics.mean(map(per_step, records)):.3f}",
        f"{statistics.mean(record['cpu_seconds'] for record in records):.0f}",
        *(spread([q for q in found if q is not None], "{:.2f}") for found in quotients),
        " ".join(f"{cer:.1f}" for cer in cers),
        f"{statistics.mean(cers):.2f}" if cers else "",
    ]


def spread(values, form) -> str:
    """Return the mean, and the smallest and largest value in brackets."""
    if not values:
        return ""
    shown = form.format(statistics.mean(values))
    if len(values) == 1:
        return shown
    return f"{shown} ({form.format(min(values))}-{form.format(max(values))})"


if __name__ == "__main__":
    main()
