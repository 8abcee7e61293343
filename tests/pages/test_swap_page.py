"""docs/swap.md: every example is started for two steps."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
from small_runs import FINETUNE, PRETRAIN, ROOT, run, weights

from speechbrain_birq import experiment
from speechbrain_birq.config import flatten

PAGE = (ROOT / "docs" / "swap.md").read_text(encoding="utf-8")
(CODE,) = re.findall(r"<!-- my_parts.py -->\n```python\n(.*?)```", PAGE, re.S)
EXAMPLES = re.findall(
    r"<!-- (delta|copy) of (\w+\.yaml)(?: with )?(\w*[^,>]*) -->\n```yaml\n(.*?)```",
    PAGE,
    re.S,
)
NAMES = [re.search(r"^\w+: (?:!\w+:)?(\S+)", text)[1] for *_, text in EXAMPLES]


@pytest.fixture
def my_parts(tmp_path, monkeypatch):
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "my_parts.py").write_text(CODE, encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    yield
    sys.modules.pop("my_parts", None)


@pytest.fixture
def write(tmp_path):
    """write(form, base, key, text): the experiment's file."""
    hparams = Path(shutil.copytree(ROOT / "hparams", tmp_path / "hparams"))

    def write(form, base, key, text):
        path = hparams / "mine.yaml"
        if form == "delta":
            path.write_text(f"!include:{base}\n{text}", encoding="utf-8")
            return path
        name = re.match(r"\w+", text)[0]
        whole = (hparams / base).read_text(encoding="utf-8")
        changed = re.sub(rf"(?m)^{name}: .*\n", lambda _: text, whole)
        assert changed != whole
        path.write_text(changed.replace("\nseed:", f"\n{key}\nseed:"), encoding="utf-8")
        return path

    return write


def settings_of(base):
    return PRETRAIN if base.startswith("birq") else FINETUNE


def start(path, base, corpus, output, **more):
    main = experiment.pretrain if base.startswith("birq") else experiment.finetune
    settings = settings_of(base) | dict(data_folder=corpus, output_folder=output)
    settings |= dict(optimizer_step_limit=2) | more
    return run(main, path, settings)


@pytest.mark.parametrize(("form", "base", "key", "text"), EXAMPLES, ids=NAMES)
def test_an_example_trains(
    _corpus_template, tmp_path, my_parts, write, form, base, key, text
):
    path = write(form, base, key, text)
    # Frames are few: so are the codes that fitted quantizers have.
    start(path, base, _corpus_template, tmp_path / "run", num_layers=2)
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["steps"] == 2
    assert all(value.isfinite().all() for value in weights(tmp_path / "run").values())
    changed = flatten(path)
    for part in re.findall(r"^(\w+): ", text, re.M):
        assert part in changed


def test_every_part_has_an_example():
    texts = "".join(text for *_, text in EXAMPLES)
    parts = set(re.findall(r"^(\w+):", texts, re.M))
    assert parts >= set(
        """encoder_kind encoder frontend anchor_quantizer enhanced_quantizer selector
        label_normalization heads model brain_class opt_class lr_schedule augment
        train_logger""".split()
    )
    for name in ("Noam", "WarmCoolDecayLR", "LinearNoam", "FileTrain", "Tensorboard"):
        assert name in texts, name


def test_the_file_logger_writes_what_the_log_says(_corpus_template, tmp_path, write):
    (example,) = [example for example in EXAMPLES if "FileTrainLogger" in example[3]]
    start(write(*example), example[1], _corpus_template, tmp_path / "run")
    lines = (tmp_path / "run" / "train_log.txt").read_text().splitlines()
    assert [line.partition(" - ")[0] for line in lines] == ["step: 1", "step: 2"]
    assert "train loss: " in lines[0] and "valid loss: " in lines[1]
