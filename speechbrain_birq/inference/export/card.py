"""Model card of an exported run: its data, figures, settings, and how to load it."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from speechbrain_birq import __version__
from speechbrain_birq.checkpoints.plain_files import read_json
from speechbrain_birq.checkpoints.run_folder import TUNED, read_stored
from speechbrain_birq.config.keys import KEYS, PATH
from speechbrain_birq.data.manifest import read_manifest
from speechbrain_birq.data.split_places import HUB, is_path, manifest_path, split_name
from speechbrain_birq.errors import BadInput
from speechbrain_birq.inference.export.card_examples import examples
from speechbrain_birq.inference.export.finished_run import FinishedRun

UNKNOWN = "not recorded in the run folder"
PAPER = "[BiRQ](https://arxiv.org/abs/2509.15430)"
ADVICE = "delete it, the card then does without it"
# Keys that say where files are, or how fast the machine works.
PRIVATE = {key for key, known in KEYS.items() if known.kind == PATH or known.machine}
SPLITS = (("training", "train_split"), ("validation", "valid_split"))
CARD = """\
---
{header}
---

# {name}

{summary}

| | |
|---|---|
{rows}

## Figures

{figures}

## Training

{command}

<details><summary>Settings</summary>

```yaml
{settings}
```

</details>

## How to load it

Install speechbrain_birq from a clone of its repository (`pip install -e .`). Its code
has the license Apache-2.0; `trust_remote_code` runs a short file that calls it. FOLDER
is this folder; for SpeechBrain and transformers also its name on the Hugging Face Hub.

{examples}
"""


def model_card(run: FinishedRun, formats: Sequence[str], license: str | None) -> str:
    """Return the text of ``README.md``, in the form of the Hugging Face Hub.

    Whatever the run folder does not say, the card says so.

    Arguments
    ---------
    run : FinishedRun
    formats : sequence of str
        The formats beside which the card lies.
    license : str, optional
        License of the weights.

    Raises
    ------
    BadInput
        If a file of the run that the card quotes is corrupt, or the license is no name.
    """
    if license is not None and not re.fullmatch(r"[\w.+-]{1,50}", license):
        raise BadInput(f"{license!r} is no license: give a name such as apache-2.0")
    settings = _settings(run.folder)
    rows = {
        "encoder": _size(run, settings),
        "input": f"{run.sample_rate} Hz, one channel",
        "output": _output(run),
        **_data(run.folder, settings),
        "steps": _results(run.folder).get("steps", UNKNOWN),
        "license of the weights": license or "not given by whoever exported them",
    }
    public = {k: v for k, v in settings.items() if k not in PRIVATE}
    for _, key in SPLITS:
        if key in public:
            public[key] = _named(public[key])
    return CARD.format(
        header=_header(run, formats, license),
        name=_plain(run.folder.resolve().name),
        summary=_summary(run, settings),
        rows="\n".join(f"| {key} | {value} |" for key, value in rows.items()),
        figures=_figures(run),
        command=_command(run, settings),
        settings="\n".join(f"{key}: {_yaml(v)}" for key, v in public.items())
        or f"# {UNKNOWN}",
        examples=examples(run, formats),
    )


def _settings(folder):
    path = folder / "hyperparams.yaml"
    found = read_stored(path).scalars() if path.is_file() else {}
    return {key: value for key, value in found.items() if key in KEYS}


def _results(folder):
    path = folder / "results.json"
    return read_json(path, ADVICE) if path.is_file() else {}


def _header(run, formats, license):
    library = "transformers" if "transformers" in formats else formats[0]
    recognizes = run.head is not None
    task = "automatic-speech-recognition" if recognizes else "feature-extraction"
    lines = [f"license: {license}"] if license else []
    lines += [f"library_name: {library}", f"pipeline_tag: {task}", "tags:"]
    return "\n".join([*lines, *(f"- {tag}" for tag in ("speech", "birq", *formats))])


def _summary(run, settings):
    weight = settings.get("enhanced_weight_value")
    method = f" with BEST-RQ, the anchor labels of {PAPER}" if weight == 0.0 else ""
    if weight:
        method = f" with {PAPER}"
    if run.head is None:
        made = f"Speech encoder, pretrained without texts{method}"
    elif not settings:
        made = "Speech recogniser (CTC)"
    elif settings.get("pretrained"):
        name = _plain(Path(str(settings["pretrained"])).name)
        made = f"Speech recogniser (CTC), fine-tuned from the run `{name}`"
    else:
        made = "Speech recogniser (CTC), trained from scratch"
    return f"{made}, by speechbrain_birq {__version__}."


def _size(run, settings):
    encoder = run.features.encoder
    count = sum(p.numel() for p in run.features.parameters())
    kind = _plain(getattr(encoder, "kind", type(encoder).__name__))
    width = run.features.output_dim
    return f"{kind}, {encoder.num_layers} layers x {width}, {count:,} parameters"


def _output(run):
    rate = 1000 / run.features.frontend.frame_ms
    states = f"{rate:g} states of {run.features.output_dim} numbers a second"
    return states if run.tokens is None else f"{states}; {len(run.tokens)} tokens"


def _data(folder, settings):
    """Rows of the splits: their names, hours and numbers of utterances."""
    rows = {}
    for title, key in SPLITS:
        split = settings.get(key)
        rows[f"{title} data"] = (
            UNKNOWN
            if split is None
            else f"{_plain(_named(split))}, {_hours(folder, str(split))}"
        )
    return rows


def _named(split: object) -> str:
    """Return a name for a split that does not say where it lies on the machine."""
    # Decoding in chunks has figures of its own, of test@chunk8.
    whole, mark, chunk = str(split).partition("@chunk")
    parts = whole.split("+")
    hidden = any(is_path(part) and not part.startswith(HUB) for part in parts)
    return "+".join(map(_name_of_part, parts)) + mark + chunk if hidden else str(split)


def _name_of_part(part):
    if part.startswith(HUB):
        return part
    # What follows a "+" may be the rest of a path.
    return split_name(part) if is_path(part) else Path(part).name


def _hours(folder, split):
    path = manifest_path(folder / "manifests", split)
    if ".." in Path(split_name(split)).parts or not path.is_file():
        return f"hours {UNKNOWN}"
    seconds = [row.duration for row in read_manifest(path)]
    return f"{sum(seconds) / 3600:.3g} h in {len(seconds):,} utterances"


def _figures(run):
    results = _results(run.folder)
    scores = {
        split: found
        for split, found in results.items()
        if isinstance(found, Mapping)
        and (run.head is None or "cer" in found)
        and split != TUNED
    }
    if not scores:
        return f"They are {UNKNOWN}."
    if run.head is not None:
        rows = ["| split | WER | CER |", "|---|---|---|"]
        rows += [
            f"| {_plain(_named(split))} | {_number(s.get('wer'))} | "
            f"{_number(s.get('cer'))} |"
            for split, s in scores.items()
        ]
        return "\n".join([*rows, "", "In percent; the settings below say how decoded."])
    rows = ["| figure | split | value |", "|---|---|---|"]
    rows += [
        f"| {_plain(name)} | {_plain(_named(split))} | {_number(value)} |"
        for split, found in scores.items()
        for name, value in found.items()
        if isinstance(value, float)
    ]
    words = "G, F: cross-entropy of the predictions against anchor and enhanced labels."
    return "\n".join([*rows, "", words])


def _command(run, settings):
    if not settings:
        return f"The command is {UNKNOWN}."
    script = "pretrain" if run.head is None else "finetune"
    more = " --pretrained RUN" if settings.get("pretrained") else ""
    return (
        f"With the run's `hyperparams.yaml`, or any complete file and the settings "
        f"below:\n\n```\nbirq {script} hyperparams.yaml --data_folder DATA{more}\n```"
    )


def _plain(text: Any) -> str:
    """Return a text without signs that Markdown, HTML or YAML would read."""
    return re.sub(r"[^\w .,+:=/%@-]", "?", str(text), flags=re.ASCII)[:100]


def _number(value):
    return f"{value:.4g}" if isinstance(value, int | float) else "unknown"


def _yaml(value):
    return "null" if value is None else _plain(value)
