"""What reads a stranger's run folder runs nothing: the interpreter's own audit."""

import json
import shutil
import subprocess
import sys
from datetime import date, datetime
from pathlib import Path

import pytest
from hostile_forms import LINES, VALUES
from hyperpyyaml import load_hyperpyyaml, resolve_references
from hypothesis import given, settings
from hypothesis import strategies as st
from test_hostile_folders import armed, with_value
from test_old_layout import OLD
from yaml import YAMLError

from speechbrain_birq.checkpoints.stored_parts import TEXT
from speechbrain_birq.config.tree import dump

pytestmark = pytest.mark.faults

TINY = Path(__file__).parents[2] / "hparams" / "ctc_tiny.yaml"


@pytest.fixture
def run(tmp_path):
    return shutil.copytree(OLD / "pretrained", tmp_path / "run")


# A hook cannot be removed, hence another process.
AUDITED = """
import json, os, sys
from speechbrain_birq.checkpoints.run_folder import load_architecture, read_architecture
from speechbrain_birq.config import load_configuration
from speechbrain_birq.errors import BadInput
from speechbrain_birq.inference import load_labeller
from speechbrain_birq.inference.start import settle_model

FORBIDDEN = ("exec", "os.", "subprocess.", "pickle.find_class", "socket.", "shutil.")
HARMLESS = ("os.scandir", "os.listdir", "os.walk")
run, TINY, OUT = sys.argv[1:]
seen, watching, refused, built = [], False, 0, 0

def labeller(run):
    load_labeller(run, 1)

def finetuned(run):
    given = {"data_folder": "x", "output_folder": OUT, "pretrained": run}
    load_configuration(TINY, given, "finetune", settle_model)

def hook(event, arguments):
    if not watching or any(str(place).startswith(OUT) for place in arguments):
        return
    if event == "os.putenv" and arguments[0] == b"SB_GLOBAL_SEED":
        return  # the seed of the user's own YAML
    if event == "open":
        flags = arguments[2] if len(arguments) > 2 else 0
        written = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if written or set(str(arguments[1])) & set("wax+"):
            seen.append(f"open {arguments[0]} {arguments[1]}")
    elif event.startswith(FORBIDDEN) and event not in HARMLESS:
        seen.append(f"{event} {arguments}"[:200])

LOADERS = (load_architecture, read_architecture, labeller, finetuned)
sys.addaudithook(hook)
for load in LOADERS:  # imports are done now
    load(run)
for line in sys.stdin:
    name, text = json.loads(line)
    path = os.path.join(run, name)
    before = open(path, "rb").read()
    open(path, "w").write(text)
    watching = True
    for load in LOADERS[: 4 if name == "architecture.yaml" else 3]:
        try:
            load(run)
            built += load is finetuned
        except BadInput:
            refused += 1
    watching = False
    open(path, "wb").write(before)
print(json.dumps([refused, built, seen]))
"""


def audited(run, files):
    lines = "".join(json.dumps(file) + "\n" for file in files)
    done = subprocess.run(
        [sys.executable, "-c", AUDITED, str(run), str(TINY), str(run.parent / "out")],
        **dict(input=lines, capture_output=True, text=True, check=True),
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_no_form_runs_code_or_writes_a_file(run):
    files = []
    for name in ("architecture.yaml", "hyperparams.yaml"):
        original = (run / name).read_text()
        for form in VALUES.values():
            with_value(run, name, form)
            files.append((name, (run / name).read_text()))
            (run / name).write_text(original)
        for line in LINES.values():
            files.append((name, f"{original}{armed(line, run)}\n"))
    refused, _, seen = audited(run, files)
    assert seen == []
    assert refused >= len(files)
    assert not (run.parent / "victim").exists()


# Fine-tuning writes a run's description, made anew, into the experiment's YAML, which
# HyperPyYAML builds. What a stranger can put there are these texts and numbers.
ODD = "= - : + @ , 1:30 2001-01-01 0x10 0b1 1_000 .inf .nan yes ~ null -- ---".split()
TEXTS = st.one_of(
    st.sampled_from([*ODD, "a: b", "- a", "a, b", ""]),
    st.from_regex(TEXT, fullmatch=True).filter(TEXT.fullmatch),
)
PLAIN = str | int | float | bool | date | datetime | None


@settings(max_examples=300, deadline=None, database=None)
@given(TEXTS)
def test_a_text_that_is_accepted_stays_data_for_hyperpyyaml(text):
    written = resolve_references(dump({"key": [text, {"key": text}], "seed": 1}))
    try:
        read = load_hyperpyyaml(written)
    except (YAMLError, ValueError):  # "=" and dates that are none
        return
    assert read.keys() == {"key", "seed"} and read["seed"] == 1
    for value in (read["key"][0], read["key"][1]["key"]):
        assert isinstance(value, PLAIN)


@pytest.mark.slow
def test_fine_tuning_builds_accepted_values_and_nothing_else_runs(run):
    text = (run / "architecture.yaml").read_text()
    changes = {
        "dropout: 0.0": ["dropout: 0.1", "dropout: 1"],
        "num_layers: 2": ["num_layers: 1", "num_layers: 0x2", "num_layers: 'a: b'"],
        "kind: conformer": ["kind: transformer", "kind: =", "kind: 2001-01-01"],
    }
    forms = [text.replace(old, new) for old in changes for new in changes[old]]
    assert text not in forms
    _, built, seen = audited(run, [("architecture.yaml", form) for form in forms])
    assert built >= 3 and seen == []
