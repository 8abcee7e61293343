"""Faulty transcripts: read as far as they can be, and named."""

import re
import shutil

import pytest
from broken_files import (
    FLAC,
)
from small_runs import finetune, log, manifest

pytestmark = pytest.mark.faults

# Transcripts: bytes of <speaker>-1.trans.txt, text of its first recording, the log.

TEXTS = {
    "none": (None, "", "recordings without a transcript"),
    "blank": (b"\n  \n\t\n", "", None),
    "name only": (b"{}-1-0000\n", "", None),
    "without audio": (b"{0}-1-0000 A B\n{0}-1-0099 C", "A B", "{}-1-0099"),
    "byte order mark": (b"\xef\xbb\xbf{}-1-0000 A B\n", "A B", None),
    "CRLF": (b"{}-1-0000 A B\r\n", "A B", None),
    "CR alone": (b"{0}-1-0099 C\r{0}-1-0000 A B\r", "A B", None),
    "tabs": (b"{}-1-0000\tA\tB\n", "A B", None),
    "Latin-1": (b"{}-1-0000 CAF\xc9", "CAF\ufffd", "{}-1.trans.txt is not UTF-8"),
    "NUL": (b"{}-1-0000 A\0B\n", "A B", "{}-1.trans.txt is not UTF-8"),
    "UTF-16": (
        "\ufeff{}-1-0000 A".encode("utf-16-le"),
        "",
        "{}-1.trans.txt is not UTF-8",
    ),
    "line separator": ("{}-1-0000 A\u2028B".encode(), "A B", None),
    "twice": (b"{}-1-0000 A B\n" * 2, "A B", None),
    "two texts": (b"{0}-1-0000 A\n{0}-1-0000 B", "A", "another text of {}-1-0000"),
    "lower case": (b"{}-1-0000 a b", "a b", None),
    "digits": (b"{}-1-0000 42", "42", None),
    "other letters": ("{}-1-0000 話す".encode(), "話す", None),
    "quotes and commas": (b'{}-1-0000 "A", B', '"A", B', None),
    "too long for its audio": (b"{}-1-0000 " + b"A" * 300_000, "A" * 300_000, None),
    "a folder": (NotADirectoryError, "", None),
    "a broken link": (FileNotFoundError, "", "skipped .*{}-1.trans.txt: No such file"),
}


@pytest.fixture(scope="module")
def transcribed(_corpus_template, tmp_path_factory):
    """Manifest and log of a fine-tuning with all these transcripts."""
    folder = tmp_path_factory.mktemp("texts")
    corpus = shutil.copytree(_corpus_template, folder / "corpus")
    for speaker, (content, _, _) in enumerate(TEXTS.values(), 100):
        chapter = corpus / f"train/{speaker}/1"
        chapter.mkdir(parents=True)
        FLAC(chapter / f"{speaker}-1-0000")
        path = chapter / f"{speaker}-1.trans.txt"
        if content is NotADirectoryError:
            path.mkdir()
        elif content is FileNotFoundError:
            path.symlink_to("nowhere")
        elif content is not None:
            name = str(speaker).encode()
            path.write_bytes(content.replace(b"{}", name).replace(b"{0}", name))
    finetune(corpus, folder / "run", n_mels=40, optimizer_step_limit=None)
    return manifest(folder / "run", "train"), log(folder / "run")


@pytest.mark.parametrize("kind", TEXTS)
def test_a_faulty_transcript_is_read_as_far_as_it_can_be(transcribed, kind):
    rows, told = transcribed
    speaker = 100 + list(TEXTS).index(kind)
    _, text, line = TEXTS[kind]
    assert rows[f"{speaker}-1-0000"]["text"] == text
    if line is not None:
        assert len(re.findall(line.format(speaker), told)) == 1


def test_utterances_without_text_are_left_out_of_fine_tuning_only(transcribed):
    _, told = transcribed
    without = sum(not text for _, text, _ in TEXTS.values())
    assert f"left out {without} of {6 + len(TEXTS)} utterances" in told
