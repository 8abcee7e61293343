"""The commands of recipes/README.md: their files, their keys, and two steps of each."""

import importlib.util
import re
import runpy
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from small_corpus import copy_split
from small_runs import ROOT, process_wide_settings_restored

from speechbrain_birq.cli.main import make_parser
from speechbrain_birq.config import load_configuration, parse_arguments
from speechbrain_birq.data.shards.convert import shard_corpus

README = (ROOT / "recipes" / "README.md").read_text()
ARPA = ROOT / "tests/decoding/data/numbers.arpa"
HEADINGS = re.findall(r"^### (\S+)$", README, re.MULTILINE)
SPLITS = {
    "LibriSpeech": {
        "train": "train-clean-100 train-clean-360 train-other-500",
        "dev": "dev-clean",
        "test": "test-clean test-other",
    },
    "ami_segments": {
        "train": "ihm-train sdm-train",
        "dev": "ihm-dev",
        "test": "ihm-test sdm-test",
    },
}
WIDTH = dict(d_model=16, nhead=2, d_ffn=32, kernel_size=5)
SMALL = WIDTH | dict(
    batch_seconds=4,
    num_workers=0,
    optimizer_step_limit=2,
    tensorboard=False,
    device="cpu",
)


def commands(text):
    """Commands of all code blocks, as lists of words."""
    for block in re.findall(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            yield shlex.split(line)


def row(heading):
    text = README.partition(f"### {heading}\n")[2].partition("\n### ")[0]
    return list(commands(text))


TRAININGS = [words for words in commands(README) if words[2].startswith("hparams/")]


def test_the_table_names_every_row_once():
    assert re.findall(r"^\| \[.*?\]\(#(\S+?)\)", README, re.MULTILINE) == HEADINGS
    assert len(set(HEADINGS)) == len(HEADINGS) == 17


@pytest.mark.parametrize("heading", [h for h in HEADINGS if "scratch" not in h])
def test_a_row_of_the_paper_has_the_labels_as_printed(heading):
    (words,) = [words for words in row(heading) if "pretrain.py" in words[1]]
    assert words[2].startswith("hparams/birq_paper_")
    path, _, overrides = parse_arguments([str(ROOT / words[2]), *words[3:]])
    loaded = load_configuration(path, overrides | WIDTH).hparams
    weights = loaded["enhanced_weight"](0), loaded["anchor_weight"](0)
    assert weights == ((0, 1) if "best-rq" in heading else (0.1, 2.4))
    assert loaded["num_codebooks"] == (4 if "4-codebooks" in heading else 1)
    assert loaded["model"].selector.gradient and loaded["model"].heads.shared


@pytest.mark.parametrize("words", TRAININGS, ids=lambda words: words[-1])
def test_a_training_s_files_exist_and_its_keys_are_read(words):
    assert words[0] == "python" and (ROOT / words[1]).is_file()
    path, _, overrides = parse_arguments([str(ROOT / words[2]), *words[3:]])
    load_configuration(path, overrides | WIDTH)


def test_commands_without_a_yaml_are_understood():
    others = [words for words in commands(README) if words not in TRAININGS]
    assert {words[0] for words in others} == {"birq", "python"}
    for words in others:
        if words[0] == "birq":
            make_parser().parse_args(words[1:])
        else:
            assert (ROOT / words[1]).is_file()


def test_what_a_row_builds_on_is_built_by_it_or_a_row_above():
    built = set()
    for heading in HEADINGS:
        for words in row(heading):
            read = {w for w in words if w.startswith("results/")}
            output = words[words.index("--output_folder") + 1]
            assert read - {output} <= built, heading
            assert output not in built
            built.add(output)


@pytest.fixture(scope="module")
def data(_corpus_template, tmp_path_factory):
    """The folders of /data, tiny."""
    folder = tmp_path_factory.mktemp("data")
    for corpus, splits in SPLITS.items():
        for source, names in splits.items():
            for number, name in enumerate(names.split(), 1):
                copy_split(_corpus_template / source, folder / corpus / name, number)
    shard_corpus(_corpus_template, folder / "yodas", splits=["train", "dev"])
    for name in ("4-gram.arpa", "ami.arpa"):
        shutil.copyfile(ARPA, folder / name)
    return folder


HAS_LM = all(importlib.util.find_spec(name) for name in ("kenlm", "pygtrie"))


def start(words, data, results):
    """Run one command for two steps in this process; greedily without the extra lm."""
    words = [w.replace("/data/", f"{data}/").replace("cuda:0", "cpu") for w in words]
    words = [re.sub("^results/", f"{results}/", w) for w in words]
    if "--lm_path" in words and not HAS_LM:
        first = words.index("--decoding")
        del words[first : first + 4]
    if words[2].startswith("hparams/"):
        words[2] = str(ROOT / words[2])
        words += [f"--{key}={value}" for key, value in SMALL.items()]
        words.append("--noprogressbar")
    with process_wide_settings_restored(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", words[1:])
        runpy.run_path(str(ROOT / words[1]), run_name="__main__")
    return Path(words[words.index("--output_folder") + 1])


@pytest.mark.slow
def test_every_row_starts_and_stops_after_two_steps(data, tmp_path):
    for heading in HEADINGS:
        for words in row(heading):
            folder = start(words, data, tmp_path)
            result = "labels.json" if "relabel.py" in words[1] else "results.json"
            assert (folder / result).is_file(), words
