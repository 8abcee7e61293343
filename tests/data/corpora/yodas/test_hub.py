"""The hub: listed, continued where it was cut, nothing damaged is kept."""

import errno
import logging
import os
import sys

import pytest
from local_hub import COMMIT, REPO, LocalHub

from speechbrain_birq.data import bounded_http
from speechbrain_birq.data.corpora.yodas import hub as hub_module
from speechbrain_birq.data.corpora.yodas.hub import HubDataset
from speechbrain_birq.errors import BadInput

LARGE = "data/en000/audio/00000000.tar.gz"
SMALL = "data/en000/text/00000000.txt"
DATA = os.urandom(300_000)


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setattr(hub_module, "WAIT", 0)
    files = {LARGE: DATA, SMALL: b"a b\n"}
    files |= {f"data/en000/text/{n:08d}.txt": b"" for n in range(1, 9)}
    with LocalHub(files).running() as hub:
        yield hub
    bounded_http._session.cache_clear()


@pytest.fixture
def dataset(hub):
    return HubDataset(REPO, endpoint=hub.endpoint)


def test_a_branch_is_pinned_to_its_commit(dataset):
    assert dataset.commit == COMMIT


def test_all_pages_of_a_listing_are_read(dataset, hub):
    files = dataset.files("data/en000")
    assert {path: file.size for path, file in files.items()} == {
        path: len(data) for path, data in hub.files.items()
    }


def test_folders_are_told_from_files(dataset, hub):
    hub.files["data/readme.txt"] = b""
    assert "en000" in dataset.folders("data")


@pytest.mark.parametrize("path", [LARGE, SMALL])
def test_a_file_comes_whole(dataset, hub, tmp_path, path):
    file = dataset.files("data/en000")[path]
    target = dataset.fetch(file, tmp_path / "a" / "file")
    assert target.read_bytes() == hub.files[path]
    assert os.listdir(tmp_path / "a") == ["file"]


def test_a_file_that_is_there_is_not_asked_for(dataset, hub, tmp_path):
    file = dataset.files("data/en000")[LARGE]
    dataset.fetch(file, tmp_path / "file")
    dataset.fetch(file, tmp_path / "file")
    assert hub.times(LARGE) == 1


def test_a_cut_connection_is_continued_from_its_last_byte(dataset, hub, tmp_path):
    hub.faults[LARGE] = [("cut", 100_000), ("cut", 200_000)]
    file = dataset.files("data/en000")[LARGE]
    assert dataset.fetch(file, tmp_path / "file").read_bytes() == DATA
    assert hub.served == [
        (LARGE, 0, 100_000),
        (LARGE, 100_000, 100_000),
        (LARGE, 200_000, 100_000),
    ]


def test_what_a_killed_run_has_left_is_continued(dataset, hub, tmp_path):
    (tmp_path / "file.partial").write_bytes(DATA[:123_456])
    file = dataset.files("data/en000")[LARGE]
    assert dataset.fetch(file, tmp_path / "file").read_bytes() == DATA
    assert hub.served == [(LARGE, 123_456, len(DATA) - 123_456)]


def test_a_truncated_file_is_completed(dataset, hub, tmp_path):
    hub.faults[LARGE] = [("short", 50_000)]
    file = dataset.files("data/en000")[LARGE]
    assert dataset.fetch(file, tmp_path / "file").read_bytes() == DATA


@pytest.mark.parametrize("path", [LARGE, SMALL])
def test_a_file_of_a_wrong_hash_is_fetched_again(dataset, hub, tmp_path, caplog, path):
    hub.faults[path] = [("wrong", 1)]
    file = dataset.files("data/en000")[path]
    with caplog.at_level(logging.WARNING):
        assert dataset.fetch(file, tmp_path / "f").read_bytes() == hub.files[path]
    assert f"{path}: what came has the wrong hash" in caplog.text
    assert hub.times(path) == 2


def test_damage_in_what_was_left_is_found_and_mended(dataset, hub, tmp_path):
    (tmp_path / "file.partial").write_bytes(b"x" * 1000)
    file = dataset.files("data/en000")[LARGE]
    assert dataset.fetch(file, tmp_path / "file").read_bytes() == DATA


def test_leftovers_longer_than_the_file_are_thrown_away(dataset, hub, tmp_path):
    (tmp_path / "file.partial").write_bytes(DATA + b"x")
    file = dataset.files("data/en000")[LARGE]
    assert dataset.fetch(file, tmp_path / "file").read_bytes() == DATA


@pytest.mark.parametrize(
    "fault, words", [(("wrong", 7), "wrong hash"), (("short", 0), "300000")]
)
def test_a_file_that_never_comes_right_is_given_up(
    dataset, hub, tmp_path, fault, words
):
    hub.faults[LARGE] = [fault] * 9
    file = dataset.files("data/en000")[LARGE]
    with pytest.raises(BadInput, match=f"gave up {LARGE}.*5 tries.*{words}"):
        dataset.fetch(file, tmp_path / "file")
    assert hub.times(LARGE) == 5
    assert not (tmp_path / "file").exists()


def test_many_cuts_do_not_count_while_bytes_come(dataset, hub, tmp_path):
    hub.faults[LARGE] = [("short", 10_000 * n) for n in range(1, 20)]
    file = dataset.files("data/en000")[LARGE]
    assert dataset.fetch(file, tmp_path / "file").read_bytes() == DATA


def test_a_file_that_the_hub_lists_and_lacks_is_given_up(dataset, hub, tmp_path):
    file = dataset.files("data/en000")[LARGE]
    del hub.files[LARGE]
    with pytest.raises(BadInput, match=f"gave up {LARGE}"):
        dataset.fetch(file, tmp_path / "file")


def test_a_full_disk_is_no_fault_of_the_connection(dataset, tmp_path, monkeypatch):
    def full(*args, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(hub_module, "_download", full)
    file = dataset.files("data/en000")[LARGE]
    with pytest.raises(BadInput, match="no space left on the disk of"):
        dataset.fetch(file, tmp_path / "file")


def test_without_huggingface_hub_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(BadInput, match=r"pip install .*\[large\]"):
        HubDataset(REPO)


def test_a_missing_folder_is_one_sentence(dataset):
    with pytest.raises(
        BadInput, match=r"cannot list espnet/yodas/data/xx.*--languages"
    ):
        dataset.files("data/xx")


@pytest.mark.parametrize("repo, revision", [("a/b", "main"), (REPO, "no-such-branch")])
def test_a_missing_dataset_or_branch_is_one_sentence(hub, repo, revision):
    with pytest.raises(BadInput, match=f"cannot list {repo}/ at {hub.endpoint}"):
        HubDataset(repo, revision, hub.endpoint)


def test_an_address_where_nobody_answers_is_one_sentence(hub):
    with pytest.raises(BadInput, match="check the connection"):
        HubDataset(REPO, endpoint="http://127.0.0.1:9")
