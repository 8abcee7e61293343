"""Files of a corpus: through links, without hidden ones, in order."""

import logging
import os

import pytest

from speechbrain_birq.data.files_below import files_below

pytestmark = pytest.mark.faults


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "corpus" / "b").mkdir(parents=True)
    for name in ("b/2.flac", "1.FLAC", "b/text.txt"):
        (tmp_path / "corpus" / name).touch()
    return tmp_path / "corpus"


def names(folder, endings=".flac"):
    return [str(path.relative_to(folder)) for path in files_below(folder, endings)]


def test_files_are_found_at_any_depth_in_order(folder):
    assert names(folder) == ["1.FLAC", "b/2.flac"]
    assert names(folder, (".txt", ".flac")) == ["1.FLAC", "b/2.flac", "b/text.txt"]


def test_a_folder_that_is_named_like_a_file_is_listed_and_searched(folder):
    (folder / "c.flac").mkdir()
    (folder / "c.flac" / "3.flac").touch()
    assert names(folder) == ["1.FLAC", "b/2.flac", "c.flac", "c.flac/3.flac"]


def test_links_to_folders_and_files_are_followed(folder, tmp_path):
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    (tmp_path / "elsewhere" / "deep" / "3.flac").touch()
    (folder / "a").symlink_to(tmp_path / "elsewhere")
    (folder / "4.flac").symlink_to(tmp_path / "elsewhere" / "deep" / "3.flac")
    assert names(folder) == ["1.FLAC", "4.flac", "a/deep/3.flac", "b/2.flac"]


@pytest.mark.parametrize("target", [".", "b", ".."])
def test_links_in_a_circle_end(folder, target):
    (folder / "b" / "up").symlink_to(folder / target)
    assert sorted(os.path.basename(name) for name in names(folder)) == [
        "1.FLAC",
        "2.flac",
    ]


def test_a_link_to_the_folder_itself_is_a_folder(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    assert names(tmp_path / "link") == ["1.FLAC", "b/2.flac"]


@pytest.mark.parametrize("name", ["._1.flac", ".hidden/3.flac", "b/.3.flac"])
def test_hidden_files_and_folders_are_skipped(folder, name):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).touch()
    assert names(folder) == ["1.FLAC", "b/2.flac"]


def test_a_link_that_leads_nowhere_is_named(folder, tmp_path, caplog):
    (folder / "12").symlink_to(tmp_path / "gone")
    with caplog.at_level(logging.WARNING):
        assert names(folder) == ["1.FLAC", "b/2.flac"]
    assert f"{folder / '12'}: a link that leads nowhere" in caplog.text


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_cannot_be_read_is_named(folder, caplog):
    (folder / "b").chmod(0)
    with caplog.at_level(logging.WARNING):
        assert names(folder) == ["1.FLAC"]
    (folder / "b").chmod(0o700)
    assert f"{folder / 'b'}: Permission denied" in caplog.text
