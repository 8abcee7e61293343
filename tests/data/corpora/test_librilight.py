"""Libri-light's limited-resource sets and LibriSpeech's own list of speakers."""

import shutil
import tarfile

import pytest
import torchaudio
from small_corpus import tone
from soundfile import write

from speechbrain_birq.data.corpora.librilight import (
    FOLDER,
    PARTS,
    URL,
    prepare_librilight,
)
from speechbrain_birq.data.corpora.librispeech import find_utterances
from speechbrain_birq.data.manifest import read_manifest
from speechbrain_birq.errors import BadInput

GROUPS = [*(f"1h/{n}" for n in range(6)), "9h"]


@pytest.fixture
def librilight(corpus):
    """The archive's layout beside the splits: two chapters in each of 14 folders."""
    speaker = 100
    for group in GROUPS:
        for kind in ("clean", "other"):
            for _ in range(2):
                speaker += 1
                name = f"{speaker}-7-0000"
                chapter = corpus / FOLDER / group / kind / str(speaker) / "7"
                chapter.mkdir(parents=True)
                write(chapter / f"{name}.flac", tone(0.3, 16000, speaker), 16000)
                (chapter / f"{speaker}-7.trans.txt").write_text(f"{name} ONE TWO\n")
    (corpus / FOLDER / "phones").mkdir()  # as in the archive; nothing for us
    return corpus


def rows(folder, split, tmp_path):
    prepare_librilight(folder, [split], tmp_path / "manifests")
    return read_manifest(tmp_path / "manifests" / f"{split}.csv")


def test_url_and_layout_are_those_of_torchaudio():
    from torchaudio.datasets import librilight_limited as theirs

    assert theirs._URL == URL
    assert theirs._ARCHIVE_NAME == FOLDER
    assert {f"librilight-{name}" for name in theirs._SUBSET_MAP} == set(PARTS)


@pytest.mark.parametrize(("split", "count"), [("10min", 4), ("1h", 24), ("10h", 28)])
def test_a_set_holds_what_torchaudio_finds_in_it(librilight, tmp_path, split, count):
    theirs = torchaudio.datasets.LibriLightLimited(librilight, split)
    found = rows(librilight, f"librilight-{split}", tmp_path)
    assert sorted(row.ID for row in found) == sorted(
        n for _, n in theirs._fileids_paths
    )
    assert len(found) == count
    assert {row.text for row in found} == {"ONE TWO"}


def test_other_splits_are_librispeech_s_and_joined_ones_hold_both(librilight, tmp_path):
    assert len(rows(librilight, "dev", tmp_path)) == 3
    assert len(rows(librilight, "dev+librilight-10min", tmp_path)) == 3 + 4


def test_a_missing_archive_is_told_with_its_origin(corpus, tmp_path):
    with pytest.raises(BadInput, match=URL):
        rows(corpus, "librilight-1h", tmp_path)


def test_a_set_that_is_none_is_refused(librilight, tmp_path):
    with pytest.raises(BadInput, match="'librilight-5h': there are librilight-10min"):
        rows(librilight, "librilight-5h", tmp_path)


@pytest.mark.parametrize(
    ("group", "sets"), [("1h/3", ["1h", "10h"]), ("9h", ["10h"]), ("1h/0", ["10min"])]
)
def test_a_missing_folder_is_named(librilight, tmp_path, group, sets):
    shutil.rmtree(librilight / FOLDER / group / "other")
    for name in sets:
        with pytest.raises(BadInput, match=f"no audio in .*{group}/other"):
            rows(librilight, f"librilight-{name}", tmp_path)


def test_a_set_that_needs_less_is_there(librilight, tmp_path):
    shutil.rmtree(librilight / FOLDER / "9h")
    assert len(rows(librilight, "librilight-1h", tmp_path)) == 24


def test_an_archive_unpacked_in_part_is_refused(librilight, tmp_path):
    next((librilight / FOLDER / "9h" / "clean").rglob("*.flac")).unlink()
    words = "9h/clean is not complete: 1 of its 2 transcripts have no audio"
    with pytest.raises(BadInput, match=words):
        rows(librilight, "librilight-10h", tmp_path)


def test_audio_without_any_transcript_is_refused(librilight, tmp_path):
    for path in (librilight / FOLDER / "1h" / "0" / "clean").rglob("*.trans.txt"):
        path.unlink()
    with pytest.raises(BadInput, match=r"no transcripts in .*1h/0/clean"):
        rows(librilight, "librilight-10min", tmp_path)


def test_what_tar_unpacks_is_found(librilight, tmp_path):
    with tarfile.open(tmp_path / f"{FOLDER}.tgz", "w:gz") as tar:
        tar.add(librilight / FOLDER, FOLDER)
    with tarfile.open(tmp_path / f"{FOLDER}.tgz") as tar:
        # Early releases of Python 3.10 and 3.11 have no filters.
        safe = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        tar.extractall(tmp_path / "unpacked", **safe)
    assert len(rows(tmp_path / "unpacked", "librilight-10h", tmp_path)) == 28


def chapter_of(librilight):
    return next((librilight / FOLDER / "1h/0/clean").rglob("*.trans.txt")).parent


@pytest.mark.faults
@pytest.mark.parametrize("start", [b"\xef\xbb\xbf", b"999-7-0000 CAF\xc9\n", b"\n"])
def test_transcripts_are_read_with_librispeech_s_care(librilight, tmp_path, start):
    """Marks of byte order and lines in Latin-1 stop nothing."""
    chapter = chapter_of(librilight)
    (path,) = chapter.glob("*.trans.txt")
    path.write_bytes(start + path.read_bytes())
    if b"999" in start:
        (flac,) = chapter.glob("*.flac")
        shutil.copy(flac, chapter / "999-7-0000.flac")
    found = {row.ID: row.text for row in rows(librilight, "librilight-10min", tmp_path)}
    assert found[path.name.removesuffix(".trans.txt") + "-0000"] == "ONE TWO"
    assert len(found) == (5 if b"999" in start else 4)


@pytest.mark.faults
def test_suffixes_in_capitals_are_audio(librilight, tmp_path):
    for path in (librilight / FOLDER / "1h" / "0").rglob("*.flac"):
        path.rename(path.with_suffix(".FLAC"))
    assert len(rows(librilight, "librilight-10min", tmp_path)) == 4


@pytest.mark.faults
def test_chapters_that_are_links_are_read_and_hidden_files_are_not(
    librilight, tmp_path
):
    chapter = chapter_of(librilight)
    chapter.rename(tmp_path / "chapter")
    chapter.symlink_to(tmp_path / "chapter")
    (tmp_path / "chapter" / "._1-7.trans.txt").write_text("1-7-0000 A")
    assert len(rows(librilight, "librilight-10min", tmp_path)) == 4


@pytest.mark.faults
@pytest.mark.parametrize("split", ["train/../dev", "", "dev+"])
def test_a_name_that_is_not_below_the_data_folder_is_refused(
    librilight, tmp_path, split
):
    with pytest.raises(BadInput, match="must name a folder below"):
        rows(librilight, split, tmp_path)
    assert not list(tmp_path.rglob("*.csv"))


def test_an_utterance_of_two_joined_sets_is_taken_once(librilight, tmp_path):
    assert len(rows(librilight, "librilight-10min+librilight-1h", tmp_path)) == 24


# LibriSpeech itself.

SPEAKERS = """\
; Some pipe(|) separated metadata about all LibriSpeech speakers
;ID  |SEX| SUBSET           |MINUTES| NAME
11   | F | train            | 25.03 | Kay Ray
12   | M | train            | 25.11 | John | Rose
13   | M | train            | 25.11 | Peter of Buckinghamshire
14   | F | dev              |  8.02 | Kristin LeMoine
21   | F | dev              |  8.02 | Susan
"""


@pytest.fixture
def librispeech(corpus):
    (corpus / "SPEAKERS.TXT").write_text(SPEAKERS)
    return corpus


def test_a_whole_split_is_taken(librispeech):
    assert len(find_utterances(librispeech, "train")) == 6


def test_speakers_without_a_folder_are_counted_and_one_is_named(librispeech):
    with pytest.raises(BadInput) as caught:
        find_utterances(librispeech, "dev")
    assert "1 of the 2 speakers in" in str(caught.value)
    assert "have no folder, for example 14" in str(caught.value)


def test_transcripts_without_audio_are_refused_in_librispeech(librispeech):
    (librispeech / "train" / "11" / "1" / "11-1-0001.flac").unlink()
    with pytest.raises(
        BadInput, match="1 of its 6 transcripts have no audio, for example 11-1-0001"
    ):
        find_utterances(librispeech, "train")


def test_they_are_not_in_a_corpus_of_ones_own(corpus):
    (corpus / "train" / "11" / "1" / "11-1-0001.flac").unlink()
    assert len(find_utterances(corpus, "train")) == 5
