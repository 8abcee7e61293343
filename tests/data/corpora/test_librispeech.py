"""LibriSpeech's layout: what is found, what is reported, what is refused."""

import logging
import shutil

import numpy as np
import pytest
import soundfile
from small_corpus import piped

from speechbrain_birq.data.corpora.librispeech import (
    find_utterances,
    prepare_librispeech,
)
from speechbrain_birq.data.manifest import read_manifest
from speechbrain_birq.errors import BadInput


def add_audio(folder, name, **options):
    folder.mkdir(parents=True, exist_ok=True)
    soundfile.write(folder / name, np.full(8000, 0.1), 16000, **options)


def test_every_utterance_of_a_split_is_found(corpus):
    found = find_utterances(corpus, "train")
    assert [u.ID for u in found] == [
        "11-1-0000", "11-1-0001", "12-1-0000", "12-1-0001", "13-1-0000", "13-1-0001"
    ]  # fmt: skip
    durations = [0.8, 1.0, 1.2, 1.5, 1.7, 2.0]
    assert [u.duration for u in found] == pytest.approx(durations, abs=1e-3)
    assert [u.speaker for u in found] == ["11", "11", "12", "12", "13", "13"]


def test_texts_are_those_of_the_transcripts(corpus):
    first, *_, last = find_utterances(corpus, "train")
    assert (first.text, last.text) == ("ONE TWO THREE", "SIX SEVEN EIGHT")


def test_paths_are_absolute_and_exist(corpus, monkeypatch):
    monkeypatch.chdir(corpus)
    for utterance in find_utterances(".", "dev"):
        assert utterance.wav.startswith("/")
        assert soundfile.info(utterance.wav).frames > 0


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        ("flac", {}),
        ("wav", {}),
        ("FLAC", {"format": "FLAC"}),
        ("opus", {"format": "OGG", "subtype": "OPUS"}),
        ("ogg", {"format": "OGG", "subtype": "VORBIS"}),
        ("mp3", {"format": "MP3"}),
        ("aiff", {"format": "AIFF"}),
        ("aif", {"format": "AIFF"}),
        ("au", {"format": "AU"}),
    ],
)
def test_every_format_is_found(tmp_path, suffix, options):
    add_audio(tmp_path / "split/7/1", f"7-1-0000.{suffix}", **options)
    (found,) = find_utterances(tmp_path, "split")
    assert (found.ID, found.speaker) == ("7-1-0000", "7")
    assert found.duration == pytest.approx(0.5, abs=1e-3)


def test_a_manifest_is_written_for_each_split(corpus, tmp_path):
    paths = prepare_librispeech(corpus, ["train", "dev"], tmp_path / "manifests")
    assert set(paths) == {"train", "dev"}
    assert read_manifest(paths["train"]) == find_utterances(corpus, "train")
    assert read_manifest(paths["dev"]) == find_utterances(corpus, "dev")


def test_a_plus_joins_splits(corpus, tmp_path):
    paths = prepare_librispeech(corpus, ["dev+test"], tmp_path / "manifests")
    both = find_utterances(corpus, "dev") + find_utterances(corpus, "test")
    assert read_manifest(paths["dev+test"]) == both


def test_preparing_twice_gives_the_same_bytes(corpus, tmp_path):
    first, second = (
        prepare_librispeech(corpus, ["train"], tmp_path / name)["train"].read_bytes()
        for name in ("a", "b")
    )
    assert first == second


def test_broken_files_are_left_out_named_and_counted(corpus, caplog):
    (corpus / "dev/21/1/21-1-0007.flac").touch()
    (corpus / "dev/21/1/21-1-0008.flac").write_text("this is no audio")
    with caplog.at_level(logging.WARNING):
        found = find_utterances(corpus, "dev")
    assert len(found) == 3
    assert "21-1-0007.flac: empty file" in caplog.text
    assert "21-1-0008.flac: unreadable" in caplog.text
    assert "skipped 2 of 5 audio files" in caplog.text


def test_transcripts_without_audio_are_counted_and_named(corpus, caplog):
    (corpus / "dev/21/1/21-1-0000.flac").unlink()
    with caplog.at_level(logging.WARNING):
        found = find_utterances(corpus, "dev")
    assert [u.ID for u in found] == ["22-1-0000", "23-1-0000"]
    assert "1 transcripts without audio: 21-1-0000" in caplog.text


def test_audio_without_transcript_is_kept_counted_and_named(corpus, caplog):
    (corpus / "dev/21/1/21-1.trans.txt").unlink()
    with caplog.at_level(logging.WARNING):
        found = find_utterances(corpus, "dev")
    assert found[0].text == ""
    assert len(found) == 3
    assert "1 recordings without a transcript: 21-1-0000" in caplog.text


def test_a_long_list_of_names_is_cut(corpus, caplog):
    text = "".join(f"99-1-{i:04d} WORD\n" for i in range(20))
    (corpus / "dev/99-1.trans.txt").write_text(text)
    with caplog.at_level(logging.WARNING):
        find_utterances(corpus, "dev")
    assert "20 transcripts without audio: 99-1-0000" in caplog.text
    assert "99-1-0004 ..." in caplog.text
    assert "99-1-0005" not in caplog.text


def test_a_complete_split_is_not_mentioned(corpus, caplog):
    with caplog.at_level(logging.WARNING):
        find_utterances(corpus, "train")
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("21-1-0000   TWO   SPACES  ", "TWO SPACES"),
        ("21-1-0000\n", ""),
        ("21-1-0000 IT'S, SO\r", "IT'S, SO"),
        ("\n\n21-1-0000 AFTER BLANKS", "AFTER BLANKS"),
    ],
)
def test_untidy_transcripts_are_read(corpus, line, text):
    (corpus / "dev/21/1/21-1.trans.txt").write_text(line)
    assert find_utterances(corpus, "dev")[0].text == text


def test_transcripts_in_another_encoding_do_not_stop_the_reading(corpus):
    path = corpus / "dev/21/1/21-1.trans.txt"
    path.write_bytes("21-1-0000 CAFÉ".encode("latin-1"))
    assert find_utterances(corpus, "dev")[0].text.startswith("CAF")


def test_a_missing_data_folder_is_refused(tmp_path):
    with pytest.raises(BadInput, match="does not exist: give --data_folder"):
        find_utterances(tmp_path / "nowhere", "train")


def test_a_missing_split_is_refused_with_those_that_exist(corpus):
    with pytest.raises(BadInput, match=r"no split 'valid'.*dev, test, train"):
        find_utterances(corpus, "valid")


@pytest.mark.parametrize("content", ["nothing", "texts", "broken"])
def test_a_split_without_audio_is_refused(corpus, content):
    folder = corpus / "empty"
    if content == "nothing":
        folder.mkdir()
    else:
        shutil.copytree(corpus / "dev", folder)
        for path in folder.rglob("*-0000.*"):
            path.unlink()
            if content == "broken":
                path.touch()
    with pytest.raises(BadInput, match="no readable audio"):
        find_utterances(corpus, "empty")


def test_no_manifest_is_written_when_a_split_is_missing(corpus, tmp_path):
    with pytest.raises(BadInput):
        prepare_librispeech(corpus, ["train+valid"], tmp_path / "manifests")
    assert not list(tmp_path.glob("manifests/*"))


def test_of_two_files_with_one_name_the_first_is_taken_and_the_other_named(
    corpus, caplog
):
    flac = next((corpus / "train").rglob("*.flac"))
    signal, rate = soundfile.read(flac)
    soundfile.write(flac.with_suffix(".wav"), signal, rate)
    ids = [u.ID for u in find_utterances(corpus, "train")]
    assert len(ids) == len(set(ids))
    assert f"skipped {flac.with_suffix('.wav')}" in caplog.text


def add_folders(split, places, suffix="wav"):
    """Recordings at some paths below a split, each with a text of its own."""
    for place in places:
        folder, name = (split / place).parent, (split / place).name
        add_audio(folder, f"{name}.{suffix}")
        with open(folder / "all.trans.txt", "a") as file:
            file.write(f"{name} TEXT OF {place}\n")


def test_one_name_in_several_folders_is_several_recordings(tmp_path, caplog):
    places = [f"{folder}/{number:03d}" for folder in "abc" for number in range(3)]
    add_folders(tmp_path / "split", places)
    found = find_utterances(tmp_path, "split")
    assert [u.ID for u in found] == places
    assert [u.text for u in found] == [f"TEXT OF {place}" for place in places]
    assert len({u.speaker for u in found}) == 9
    assert caplog.text == ""


def test_only_names_that_several_folders_have_become_paths(tmp_path):
    add_folders(tmp_path / "split", ["11/1/11-1-0000", "a/x", "b/c/x", "x"])
    found = find_utterances(tmp_path, "split")
    assert [(u.ID, u.text) for u in found] == [
        ("11-1-0000", "TEXT OF 11/1/11-1-0000"),
        ("a/x", "TEXT OF a/x"),
        ("b/c/x", "TEXT OF b/c/x"),
        ("x", "TEXT OF x"),
    ]
    assert found[0].speaker == "11"


def test_names_are_the_same_if_another_recording_cannot_be_read(tmp_path):
    add_folders(tmp_path / "split", ["a/x", "b/x"])
    (tmp_path / "split/a/x.wav").write_text("no audio")
    (found,) = find_utterances(tmp_path, "split")
    assert found.ID == "b/x"


def test_a_folder_with_one_name_in_two_formats_gives_one_recording(tmp_path, caplog):
    for suffix in ("flac", "wav"):
        add_folders(tmp_path / "split", ["a/x", "b/x"], suffix)
    found = find_utterances(tmp_path, "split")
    assert [u.wav for u in found] == [
        str(tmp_path / f"split/{folder}/x.flac") for folder in "ab"
    ]
    assert f"skipped {tmp_path}/split/b/x.wav" in caplog.text


def test_the_copy_without_loss_is_taken(tmp_path, caplog):
    for suffix in ("mp3", "wav", "ogg"):
        add_audio(tmp_path / "split", f"x.{suffix}", format=suffix.upper())
    (found,) = find_utterances(tmp_path, "split")
    assert found.wav == str(tmp_path / "split" / "x.wav")
    for suffix in ("mp3", "ogg"):
        assert f"skipped {tmp_path}/split/x.{suffix}: " in caplog.text


def test_files_in_formats_that_are_not_read_are_counted(tmp_path, caplog):
    add_audio(tmp_path / "split", "x.flac")
    for name in ("a.m4a", "b.AAC", "c.txt"):
        (tmp_path / "split" / name).touch()
    assert [u.ID for u in find_utterances(tmp_path, "split")] == ["x"]
    assert "skipped 2 files in formats that libsndfile does not read" in caplog.text
    assert f"for example {tmp_path}/split/a.m4a" in caplog.text


def test_a_transcript_may_name_recordings_by_path(tmp_path, caplog):
    for place in ("a", "b"):
        add_audio(tmp_path / "split" / place, "x.wav")
    add_audio(tmp_path / "split" / "a", "y.wav")
    lines = "a/x ONE\nb/x TWO\na/y THREE\n"
    (tmp_path / "split" / "all.trans.txt").write_text(lines)
    found = {u.ID: u.text for u in find_utterances(tmp_path, "split")}
    assert found == {"a/x": "ONE", "y": "THREE", "b/x": "TWO"}
    assert caplog.text == ""


def test_a_text_of_a_name_in_several_other_folders_is_nobody_s(tmp_path, caplog):
    for place in ("", "b"):
        add_audio(tmp_path / "split" / place, "x.wav")
    (tmp_path / "split" / "c").mkdir()
    (tmp_path / "split" / "c" / "c.trans.txt").write_text("x ONE\n")
    assert [u.text for u in find_utterances(tmp_path, "split")] == ["", ""]
    assert "1 transcripts without audio: c/x" in caplog.text


def test_joined_folders_with_one_name_keep_both(tmp_path):
    for split in ("t1", "t2"):
        add_audio(tmp_path / split, "000.wav")
    paths = prepare_librispeech(tmp_path, ["t1+t2"], tmp_path / "manifests")
    assert [u.ID for u in read_manifest(paths["t1+t2"])] == ["t1/000", "t2/000"]


def test_a_recording_of_two_joined_folders_is_taken_once(corpus, tmp_path):
    paths = prepare_librispeech(corpus, ["dev+dev/21"], tmp_path / "manifests")
    assert len(read_manifest(paths["dev+dev/21"])) == 3


@pytest.mark.faults
def test_speakers_and_chapters_that_are_links_are_read(corpus, tmp_path, caplog):
    (corpus / "train" / "11").rename(tmp_path / "11")
    (corpus / "train" / "11").symlink_to(tmp_path / "11")
    (corpus / "train" / "12" / "1").rename(tmp_path / "chapter")
    (corpus / "train" / "12" / "1").symlink_to(tmp_path / "chapter")
    with caplog.at_level(logging.WARNING):
        found = find_utterances(corpus, "train")
    assert len(found) == 6 and all(utterance.text for utterance in found)
    assert caplog.text == ""


@pytest.mark.faults
def test_what_macos_leaves_beside_each_file_is_skipped(corpus, caplog):
    for path in [path for path in corpus.rglob("*") if path.is_file()]:
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7")
    (corpus / ".Trashes").mkdir()
    with caplog.at_level(logging.WARNING):
        assert len(find_utterances(corpus, "train")) == 6
        with pytest.raises(BadInput, match="it has dev, test, train"):
            find_utterances(corpus, "valid")
    assert caplog.text == ""


@pytest.mark.faults
def test_published_transcripts_of_macos_need_no_audio(corpus):
    (corpus / "SPEAKERS.TXT").write_text("21 | F | dev | 8 | A\n")
    (corpus / "dev" / "21" / "1" / "._21-1.trans.txt").write_text("999-1-0000 A")
    assert len(find_utterances(corpus, "dev")) == 3


@pytest.mark.faults
def test_a_flac_without_a_length_in_its_header_is_named(corpus, caplog):
    piped(corpus / "dev" / "21" / "1" / "21-1-0000.flac")
    with caplog.at_level(logging.WARNING):
        assert len(find_utterances(corpus, "dev")) == 2
    reason = "length missing in the header: re-encode it"
    assert f"21-1-0000.flac: {reason}" in caplog.text
