"""Texts of a language model: from every form that a corpus may have."""

import json
import logging

import pytest

from speechbrain_birq.cli.main import main
from speechbrain_birq.decoding.sentences import read_sentences
from speechbrain_birq.errors import BadInput


def test_texts_come_from_manifests_folders_and_text_files(tmp_path):
    (tmp_path / "a.csv").write_text("ID,text\nu1,ONE  TWO\nu2,\n")
    (tmp_path / "1-2.trans.txt").write_text("1-2-3 THREE FOUR\n1-2-4\n")
    (tmp_path / "b.txt").write_text("FIVE\n\nSIX\n")
    found = read_sentences([tmp_path / "a.csv", tmp_path, tmp_path / "b.txt"])
    assert found == ["ONE TWO", "THREE FOUR", "FIVE", "SIX"]


OBJECTS = [{"audio_filepath": f"{n}.wav", "text": text} for n, text in enumerate("AB")]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "path,sentence\n1.wav,A\n2.wav,B\n"),
        ("A.CSV", "path,text\n1.wav,A\n2.wav,B\n"),
        ("a.csv", "path;transcription\n1.wav;A\n2.wav;B\n"),
        ("a.csv", "\ufefftext,path\nA,1.wav\nB,2.wav\n"),
        ("a.csv", "text\nA\nB\n"),
        ("a.tsv", "client_id\tpath\tsentence\nx\t1.mp3\tA\ny\t2.mp3\tB\n"),
        ("a.jsonl", "".join(f"{json.dumps(row)}\n" for row in OBJECTS)),
        ("a.json", "\n".join(map(json.dumps, OBJECTS))),
        ("a.trans.txt", "\ufeff1-1-1 A\n\n1-1-2 B\n"),
        ("a.trans.txt", "1-1-1\tA\r\n1-1-2  \t B\r\n"),
        ("a.txt", "\ufeffA\r\nB"),
    ],
)
def test_every_form_of_a_corpus_has_its_texts_alone(tmp_path, name, content):
    (tmp_path / name).write_bytes(content.encode())
    assert read_sentences([tmp_path / name]) == ["A", "B"]


@pytest.mark.parametrize("mark", [" ", "\t", " \t ", "\u3000"])
def test_any_white_space_separates_a_name_from_its_text(tmp_path, mark):
    (tmp_path / "a.trans.txt").write_text(f"u1{mark}ONE TWO\n", encoding="utf-8")
    assert read_sentences([tmp_path]) == ["ONE TWO"]


def test_texts_of_an_audiofolder_are_those_of_its_metadata(tmp_path):
    (tmp_path / "metadata.csv").write_text("file_name,transcription\n1.flac,ONE\n")
    assert read_sentences([tmp_path]) == ["ONE"]


@pytest.fixture
def parted(tmp_path):
    """An audiofolder of two splits."""
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
    lines = "file_name,text\ntrain/1.flac,ONE\ntest/1.flac,TWO\n"
    (tmp_path / "metadata.csv").write_text(lines)
    return tmp_path


def test_texts_of_a_split_are_what_the_parent_s_metadata_says_of_it(parted):
    assert read_sentences([parted / "train"]) == ["ONE"]


def test_texts_of_a_test_split_are_not_read_unnoticed(parted):
    with pytest.raises(BadInput, match=r"lists the splits test, train: give .*/train"):
        read_sentences([parted])
    assert read_sentences([parted / "metadata.csv"]) == ["ONE", "TWO"]


def test_texts_of_a_saved_dataset_are_read(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rows = {"path": ["1.flac", "2.flac"], "sentence": ["ONE", "TWO"]}
    datasets.Dataset.from_dict(rows).save_to_disk(tmp_path / "saved")
    assert read_sentences([tmp_path / "saved"]) == ["ONE", "TWO"]


def test_a_transcript_is_read_as_for_fine_tuning(tmp_path, caplog):
    data = "1 ONE\r2 É\r".encode("latin-1")
    (tmp_path / "1.trans.txt").write_bytes(data)
    assert read_sentences([tmp_path]) == ["ONE", "\ufffd"]
    assert "1.trans.txt is not UTF-8 text" in caplog.text


def test_texts_are_taken_as_they_are(tmp_path):
    (tmp_path / "a.csv").write_text('path,text\n1.wav,"No, it isn\'t."\n')
    assert read_sentences([tmp_path / "a.csv"]) == ["No, it isn't."]


def test_of_two_columns_of_texts_the_one_of_training_is_taken(tmp_path, caplog):
    (tmp_path / "a.csv").write_text("path,sentence,text\n1.wav,RAW,CLEAN\n")
    with caplog.at_level(logging.WARNING):
        assert read_sentences([tmp_path / "a.csv"]) == ["CLEAN"]
    assert "takes the column 'text', not 'sentence'" in caplog.text


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("none.txt", None, "does not exist"),
        ("empty.txt", b"\n", "no texts in"),
        ("empty.csv", b"path,text\n1.wav,\n", "no texts in"),
        ("rows.csv", b"path,text\n", "has no rows"),
        (
            "columns.csv",
            b"a,b\n1,2\n",
            r"no column text, .* or words \(it has a, b\): put",
        ),
        ("columns.jsonl", b'{"path": "1.wav"}\n', r"no column text, .*it has path"),
        ("array.json", b'[{"text": "A"}]\n', "line 1 is no JSON object"),
        ("bytes.txt", b"\xff\xfe\x00", "no text in UTF-8"),
        ("bytes.csv", b"ID,text\nu1,\xe9t\xe9\n", "line 2 is not UTF-8"),
    ],
)
def test_texts_that_are_none_are_named(tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=words) as caught:
        read_sentences([tmp_path / name])
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_model_of_a_table_knows_its_texts_alone(tmp_path):
    (tmp_path / "a.tsv").write_text("path\tsentence\n1.mp3\tONE TWO\n2.mp3\tTWO\n")
    main(["ngram", str(tmp_path / "a.arpa"), str(tmp_path / "a.tsv"), "--order", "2"])
    unigrams = (tmp_path / "a.arpa").read_text().split("-grams:\n")[1].split("\n\n")[0]
    words = {line.split("\t")[1] for line in unigrams.splitlines()}
    assert words == {"<s>", "</s>", "<unk>", "ONE", "TWO"}


def test_texts_are_not_replaced_by_a_language_model(tmp_path, capsys):
    train, dev = tmp_path / "train.txt", tmp_path / "dev.txt"
    train.write_text("ONE TWO")
    dev.write_text("ONE")
    with pytest.raises(SystemExit, match="2"):
        main(["ngram", str(train), str(dev)])
    assert "train.txt exists and is no ARPA file" in capsys.readouterr().err
    assert train.read_text() == "ONE TWO"
    for _ in range(2):  # an ARPA file is replaced
        main(["ngram", str(tmp_path / "lm.arpa"), str(train), "--order", "2"])
