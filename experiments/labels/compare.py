"""Run label experiments: pretrain and fine-tune each arm, store and compare figures.

    birq minispeech corpus --hours 1
    cd experiments/labels; python compare.py minispeech.yaml --data_folder corpus
    python compare.py minispeech.yaml --data_folder corpus \
        --arms best_rq anchor_centroids --seeds 1234 --jobs 2
    python compare.py minispeech.yaml --table

A piece is one arm with one seed, on one core: a pretraining and ``finetunings``
(default: 1) of it, each with its own seed. Finished pieces are stored beside the YAML
file as ``<name>/<arm>-<seed>.json`` and not run again; a stopped piece resumes its
training. Several processes may run different arms of one plan. ``yaml`` of an arm is a
file in ``<name>/`` or in ``hparams/``. A piece holds the options of its arm, those of
the plan, and the commands that were run; pieces of earlier versions hold the first
only. The tables are made from the stored pieces, and ``<name>.png`` shows them.
"""

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ruamel.yaml
import table

from speechbrain_birq.checkpoints import files
from speechbrain_birq.cli.side_by_side import add_seconds
from speechbrain_birq.metrics.curves import read_metrics

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "recipes/LibriSpeech"


def main():
    """Run the missing pieces, then print the table of the stored ones."""
    options = arguments()
    plan = ruamel.yaml.YAML(typ="safe").load(options.plan)
    kept = options.plan.with_suffix("")
    if not options.table:
        run_missing(plan, kept, options)
    records = [json.loads(path.read_text()) for path in sorted(kept.glob("*.json"))]
    print(table.table(plan, records), table.label_table(plan, records), sep="\n\n")
    table.picture(plan, records, options.plan.with_suffix(".png"))


def arguments():
    """Parse the command line."""
    parser = plan_parser(__doc__, "results/labels")
    parser.add_argument("--jobs", type=int, default=1, help="pieces side by side")
    return checked(parser)


def plan_parser(about: str, output_folder: str) -> argparse.ArgumentParser:
    """Return the parser of a script that runs the pieces of a plan.

    Arguments
    ---------
    about : str
        The script's docstring.
    output_folder : str
        Where runs go by default.
    """
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("plan", type=Path, help="YAML of the arms")
    parser.add_argument("--data_folder", help="folder of the corpus")
    parser.add_argument("--output_folder", type=Path, default=Path(output_folder))
    parser.add_argument("--arms", nargs="+", help="default: all")
    parser.add_argument("--seeds", nargs="+", type=int, help="default: all")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--table", action="store_true", help="run nothing, only make the table"
    )
    return parser


def checked(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse the command line, and refuse one without a plan or a corpus."""
    options = parser.parse_args()
    if not options.plan.is_file():
        parser.error(f"no YAML file {options.plan}")
    if not (options.table or options.data_folder):
        parser.error("--data_folder is missing")
    return options


def run_missing(plan, kept, options):
    """Run every requested piece that is not stored yet, seed by seed."""
    kept.mkdir(exist_ok=True)
    arms = chosen_arms(plan, options)
    pieces = [(arm, seed) for seed in options.seeds or plan["seeds"] for arm in arms]
    with ThreadPoolExecutor(options.jobs) as pool:
        running = [
            pool.submit(run_piece, arm, seed, plan, path, options)
            for arm, seed in pieces
            if missing(path := kept / f"{arm}-{seed}.json", plan)
        ]
        for piece in running:
            piece.result()


def chosen_arms(plan, options) -> list:
    """Return the arms that are asked for, by default all of the plan."""
    arms = options.arms or list(plan["arms"])
    for arm in set(arms) - set(plan["arms"]):
        sys.exit(f"error: no arm {arm!r} in {options.plan}: {', '.join(plan['arms'])}")
    return arms


def missing(path, plan) -> bool:
    """Return whether a piece was not run, or has too few fine-tunings."""
    if not path.exists():
        return True
    return len(json.loads(path.read_text())["scores"]) < plan.get("finetunings", 1)


def run_piece(arm, seed, plan, path, options):
    """Pretrain, fine-tune and score one arm with one seed."""
    folder = options.output_folder / plan_name(options) / f"{arm}-{seed}"
    common = {"data_folder": options.data_folder, "tensorboard": False}
    common |= {"device": options.device}
    settings, finetune = plan["arms"][arm], dict(plan["finetune"])
    record = {"arm": arm, "seed": seed, "cpu_seconds": 0.0, "pretraining": None}
    record |= {"settings": settings, "commit": commit(), "machine": machine()}
    record |= {key: plan[key] for key in ("pretrain", "finetune")} | {"commands": []}
    if settings is not None:
        settings = plan["pretrain"] | with_own_yaml(settings, path.parent)
        run = folder / "pretrain"
        record["cpu_seconds"] = train(
            "pretrain", run, settings, common | {"seed": seed}
        )
        record["pretraining"] = json.loads((run / "results.json").read_text())["valid"]
        record["commands"].append(stored_command(run))
        finetune["pretrained"] = run
    record |= {"scores": [], "dev_cer": [], "errors": {}}
    for number in range(plan.get("finetunings", 1)):
        run = folder / (f"finetune-{number + 1}" if number else "finetune")
        own = {"yaml": "ctc_tiny.yaml", "seed": seed + 10_000 * number}
        train("finetune", run, own | finetune, common)
        record["commands"].append(stored_command(run))
        add_scores(record, run, plan["test_split"])
    files.write(path, json.dumps(record) + "\n")
    rates = " ".join(f"{scores['cer']:.2f}" for scores in record["scores"])
    print(f"{arm}, seed {seed}: {rates} % CER", flush=True)


def with_own_yaml(settings, folder) -> dict:
    """Return the settings of an arm; a YAML file in the plan's folder is preferred."""
    own = folder / settings["yaml"]
    return settings | ({"yaml": own.resolve()} if own.is_file() else {})


def add_scores(record, run, split):
    """Append the rates of a fine-tuning, and add its errors to those of the others."""
    record["scores"].append(json.loads((run / "results.json").read_text())[split])
    on_dev = min(row["cer"] for row in read_metrics(run, "valid"))
    record["dev_cer"].append(round(on_dev, 3))
    for name, counts in table.read_errors(run, split).items():
        so_far = record["errors"].get(name, (0, 0))
        record["errors"][name] = [
            sum(pair) for pair in zip(so_far, counts, strict=True)
        ]


def commit() -> str:
    """Return the commit of this tree, and whether files differ; empty without git."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()
    except FileNotFoundError:
        return ""


def machine() -> str:
    """Return what seconds are measured on: processor, its cores, torch's version."""
    import torch

    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(": ")[2] for line in lines if "model name" in line]
    processor = (names or [platform.processor() or platform.machine()])[0]
    return f"{processor}, {os.cpu_count()} cores, torch {torch.__version__}"


def plan_name(options):
    """Return the name of the plan, which is also that of the folder of its runs."""
    return options.plan.stem


def train(recipe, run, settings, common) -> float:
    """Start a recipe as a user would, unless it is finished; return its CPU seconds."""
    if (run / "results.json").exists():
        return round(add_seconds(run / "cpu_seconds.txt", 0.0), 1)
    settings = dict(settings)
    yaml = ROOT / "hparams" / settings.pop("yaml")
    values = common | settings | {"output_folder": run}
    command = [sys.executable, str(RECIPES / f"{recipe}.py"), str(yaml)]
    command += ["--noprogressbar"]
    command += [
        word for key, value in values.items() for word in (f"--{key}", str(value))
    ]
    run.mkdir(parents=True, exist_ok=True)
    (run / "command.txt").write_text(command_text(command))
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with open(run / "output.txt", "a", encoding="utf-8") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env=environment
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    used = add_seconds(run / "cpu_seconds.txt", usage.ru_utime + usage.ru_stime)
    if process.returncode:
        raise SystemExit(f"error: {' '.join(command)} failed: see {run}/output.txt")
    return round(used, 1)


def command_text(command) -> str:
    """Return a command without this machine's folders: relative to the tree, or names.

    Example
    -------
    >>> command_text(["/bin/python3", f"{ROOT}/a.py", "--data_folder", "/data/so762"])
    'python a.py --data_folder so762'
    """
    words = []
    for word in command[1:]:
        path = Path(word)
        if path.is_absolute():
            path = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path.name
            word = str(path)
        words.append(word)
    return shlex.join(["python", *words])


def stored_command(run) -> str:
    """Return the command that started a run; empty if an earlier version did."""
    path = run / "command.txt"
    return path.read_text() if path.exists() else ""


if __name__ == "__main__":
    main()
