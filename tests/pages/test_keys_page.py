"""docs/keys.md is made of the table of keys and of the comments in the YAML files.

python tests/pages/test_keys_page.py    # writes the page anew
"""

import re
from pathlib import Path

from speechbrain_birq.config.keys import FLAG, KEYS, PART

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "keys.md"
HEAD = """# The keys of a YAML file

Every key of a file in `hparams/` can be given on the command line as `--key value`.
Paths and texts are taken to the letter. A file that begins with `!include:other.yaml`
is a delta: it changes keys of a complete file. On the command line and in a delta, a
key that nothing reads is an error that names the nearest key that is read. A complete
file may hold keys of your own; a Brain reads them as `self.hparams.key`.

`birq config FILE --key value` prints the file that results, delta and command line
included. Every run folder holds that file as `hyperparams.yaml`; it can be run again.

A stopped run that is started again may have other values only where the last column
says so. Numbers are finite. Null is allowed where it is named. The objects below the
keys are in [swap.md](swap.md).

This page is made by `python tests/pages/test_keys_page.py` from the comments of
`birq_base.yaml` and `ctc_base.yaml` and from `speechbrain_birq/config/keys.py`.
"""
COLUMNS = "\n| key | meaning | takes | may change |\n|---|---|---|---|\n"
NOT_IN_BASE = {
    "anchor_projection": "in `plus` files: projection of the stacked frames",
    "anchor_codes": "in `plus` files: codes; `centroids` are those of k-means",
    "enhanced_projection": "as `anchor_projection`, for layer k",
    "enhanced_codes": "as `anchor_codes`, for layer k",
}

# Where the comment holds for the file that it stands in, and not for every file.
FOR_EVERY_FILE = {
    "stack": "frames of 10 ms joined to one: 2 give 50 Hz, 4 give 25 Hz",
    "attention_window": "frames that attend to each other, in `block_conformer` blocks "
    "of so many, elsewhere half of them on each side; null: all",
    "text_case": "case of all texts",
    "tokens": "what the model spells texts with",
    "decoding": "how a text is found",
    "batch_seconds": "audio in a batch of one GPU, padding included",
    "total_steps": "the rate is 0 there",
    "grad_accumulation_factor": "batches in a step",
    "lr": "the highest rate; in fine-tuning of the output layer and of fresh_layers",
}


def sections(name):
    """Title of a section -> key -> comment."""
    found = {}
    for line in (ROOT / "hparams" / name).read_text(encoding="utf-8").splitlines():
        title = re.match(r"# (\w.*)", line)
        key = re.match(r"([a-z]\w*):[^#]*(?:# (.*))?$", line)
        if title:
            current = found[title[1]] = {}
        elif key:
            current[key[1]] = key[2]
    return {title: keys for title, keys in found.items() if keys}


def row(key, comment):
    known = KEYS[key]
    words = "`True` or `False`" if known.kind == FLAG else known.kind.words
    takes = words + (", or null" if known.null else "")
    meaning = FOR_EVERY_FILE.get(key, comment).replace("|", "\\|")
    return f"| `{key}` | {meaning} | {takes} | {'yes' if known.resume else ''} |\n"


def page():
    text, seen = HEAD, set()
    for name, of in (("birq_base.yaml", ""), ("ctc_base.yaml", " (fine-tuning)")):
        for title, keys in sections(name).items():
            new = {
                key: comment
                for key, comment in keys.items()
                if key in KEYS and KEYS[key].kind != PART and key not in seen
            }
            if title.startswith("Labels"):
                new |= NOT_IN_BASE
            if new:
                text += f"\n## {title}{of}\n{COLUMNS}"
                text += "".join(row(*pair) for pair in new.items())
            seen |= new.keys()
    return text


def test_the_page_is_what_the_table_and_the_files_say():
    assert PAGE.read_text(encoding="utf-8") == page(), "run this file to write it anew"


def test_every_key_of_the_table_is_on_the_page():
    plain = {key for key, known in KEYS.items() if known.kind != PART}
    named = set(re.findall(r"^\| `(\w+)`", page(), re.M))
    assert plain - named <= {"data_parallel_count"}


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
