"""Shards over HTTP: only what is needed, and a server that fails loses nothing else."""

import numpy as np
import pytest
from bounds import bounded
from small_shards import (
    COUNT,
    assert_complete,
    dataset_of,
    heard,
    loader_of,
    recording,
    survivors,
    tar,
)

from speechbrain_birq.data.shards import storage
from speechbrain_birq.data.shards.reader import find_shards
from speechbrain_birq.errors import BadInput

pytestmark = pytest.mark.faults

ALL_NAMES = [recording(number)[0] for number in range(COUNT)]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_shards_are_read_over_http(server, num_workers):
    assert_complete(heard(loader_of(dataset_of(server[0]), num_workers)))


def test_over_http_only_the_audio_of_a_rank_is_fetched(server):
    url, handler = server
    list(loader_of(dataset_of(url), ranks=(0, 2)))
    audio = sum(len(recording(n)[1]) * 2 for n in range(COUNT))  # noise: not smaller
    assert 0.3 * audio < handler.sent < 0.8 * audio


def test_no_shards_behind_a_url_is_refused(server):
    with pytest.raises(BadInput, match=r"no shards in http.*/dev: .*404"):
        find_shards(server[0], "dev")


def test_a_server_without_range_requests_is_refused(server):
    url, handler = server
    handler.ranges = False
    with pytest.raises(BadInput, match="does not know Range requests"):
        find_shards(url, "train")


@pytest.mark.usefixtures("impatient")
def test_a_server_that_is_not_there_is_refused():
    with pytest.raises(BadInput, match=r"no shards in http://127\.0\.0\.1:1/train"):
        find_shards("http://127.0.0.1:1", "train")


@pytest.mark.usefixtures("patient")
def test_a_server_that_fails_now_and_then_is_asked_again(server):
    url, handler = server
    handler.failures |= {"recording.000001.tar": 2, "index.json": 2}
    assert_complete(heard(loader_of(dataset_of(url))))


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("fault", ["missing", "failing"])
def test_a_shard_that_the_server_does_not_give_is_named(server, shards, caplog, fault):
    url, handler = server
    lost = len(np.load(shards / "train" / "tables" / "000001.npy"))
    if fault == "missing":
        tar(shards, 1).unlink()
    else:
        handler.failures["recording.000001.tar"] = 10_000
    assert len(survivors(url, caplog)) == COUNT - lost
    assert "recording.000001.tar" in caplog.text


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("cache_gb", [0, 1])
@pytest.mark.parametrize(
    "file", ["000001.npy", "cuts.000001.jsonl.gz", "recording.000001.tar"]
)
def test_what_a_server_did_not_give_is_asked_for_again(server, file, cache_gb):
    url, handler = server
    dataset = dataset_of(url, cache_gb=cache_gb)
    loader = loader_of(dataset)
    handler.failures[file] = 10_000
    assert sorted(name for name, _ in heard(loader)) != ALL_NAMES
    handler.failures.clear()
    loader.batch_sampler.set_epoch(2)
    assert_complete(heard(loader))


def test_a_redirect_on_the_same_host_is_followed(server):
    url, handler = server
    handler.moved_to = url
    assert_complete(heard(loader_of(dataset_of(f"{url}/moved"))))


def test_a_redirect_to_another_host_is_refused(server):
    url, handler = server
    handler.moved_to = "http://127.0.0.2:1"
    with (
        bounded(),
        pytest.raises(BadInput, match=r"redirected to http://127\.0\.0\.2:1/train"),
    ):
        find_shards(f"{url}/moved", "train")


def test_redirects_in_a_circle_are_refused(server):
    url, handler = server
    handler.moved_to = f"{url}/moved"
    with bounded(), pytest.raises(BadInput, match="redirected 4 times"):
        find_shards(f"{url}/moved", "train")


def test_a_server_that_sends_more_than_fits_is_refused(server, monkeypatch):
    monkeypatch.setattr(storage, "LARGEST", 50)
    with pytest.raises(BadInput, match="sends more than 50 bytes"):
        find_shards(server[0], "train")


def test_a_piece_that_is_longer_than_asked_for_is_not_read_to_its_end(server):
    url, handler = server
    handler.extra = 1000
    with pytest.raises(BadInput, match="sends more than 1 bytes"):
        find_shards(url, "train")
