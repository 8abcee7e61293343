"""SpeechBrain's own scripts, run by the commands of our page, on a corpus of tones.

``BIRQ_SPEECHBRAIN`` names a clone of SpeechBrain at the commit of the page.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
from small_corpus import WORDS, tone
from small_runs import ROOT

CLONE = Path(os.environ.get("BIRQ_SPEECHBRAIN", ""))
PAGE = ROOT / "recipes/LibriSpeech/speechbrain/README.md"
SMALL = {
    "ASR/CTC": "--output_neurons 16 --dnn_neurons 16",
    "ASR/seq2seq": "--enc_neurons 16 --emb_size 8 --dec_neurons 16 --test_beam_size 2",
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        "BIRQ_SPEECHBRAIN" not in os.environ,
        reason="no clone of SpeechBrain: name one in BIRQ_SPEECHBRAIN",
    ),
]


def block(mark):
    """Words of the command after a mark of the page."""
    text = PAGE.read_text(encoding="utf-8")
    found = re.search(rf"<!-- {mark} -->\n```sh\n(.*?)```", text, re.DOTALL)
    return shlex.split(found[1].replace("\\\n", " "))


@pytest.fixture
def corpus(tmp_path):
    """Tones in LibriSpeech's layout; all letters occur in train."""
    for split, count in (("train", 9), ("dev", 2), ("test", 2)):
        folder = tmp_path / "corpus" / split / "1" / "1"
        folder.mkdir(parents=True)
        lines = []
        for number in range(count):
            soundfile.write(folder / f"1-1-{number}.flac", tone(1.2, 16000, 0), 16000)
            lines.append(f"1-1-{number} ONE {WORDS[number]}\n")
        (folder / "1-1.trans.txt").write_text("".join(lines))
    return tmp_path / "corpus"


@pytest.mark.parametrize("script", SMALL)
def test_the_command_of_the_page_trains_and_scores(
    script, corpus, pretrained_folder, pieces, tmp_path
):
    places = {
        "BIRQ/results/birq_base": str(pretrained_folder),
        "BIRQ": str(ROOT),
        "/data/LibriSpeech": str(corpus),
        "OUTPUT": str(tmp_path / "out"),
    }
    python, *words = [*block(f"script: {script}"), *block("options")]
    for name, place in places.items():
        words = [word.replace(name, place) for word in words]
    words += shlex.split(f"{SMALL[script]} --num_workers 0 --number_of_epochs 2")
    if script == "ASR/seq2seq":
        words += ["--tokenizer_file", str(next(tmp_path.glob("*.model")))]
        words += ["--output_neurons", str(len(pieces))]
    assert python == "python"
    done = subprocess.run(
        [sys.executable, *words],
        cwd=CLONE / "recipes/LibriSpeech" / script,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Scored 2 sentences" in (tmp_path / "out/wer_test.txt").read_text()
    *_, valid, test = (tmp_path / "out/train_log.txt").read_text().splitlines()
    assert "epoch: 2" in valid and "test WER" in test
