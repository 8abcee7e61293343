"""Reading shards: what was written comes back, once; faults are named."""

import functools
import gzip
import http.server
import logging
import shutil
import threading

import fsspec
import numpy as np
import pytest
import torch

from speechbrain_birq.data.loaders import make_loader
from speechbrain_birq.data.manifest import Utterance
from speechbrain_birq.data.pipeline import AudioReader, MaskItem
from speechbrain_birq.data.shards import storage
from speechbrain_birq.data.shards.dataset import make_shard_dataset
from speechbrain_birq.data.shards.reader import Shards, find_shards
from speechbrain_birq.data.shards.writer import write_shards
from speechbrain_birq.errors import BadInput
from speechbrain_birq.models.frontend import FrontEnd
from speechbrain_birq.models.masking import SpanMasking

RATE = 16000
COUNT = 12


def recording(number):
    """(name, samples of 16 bits): 0.3 to 0.85 s."""
    rng = np.random.default_rng(number)
    samples = rng.integers(-9000, 9000, 4800 + 800 * number).astype(np.float32)
    return f"s-1-{number:04d}", samples / 32768


def write(folder, numbers=range(COUNT), rate=RATE):
    pairs = (
        (Utterance(name, 0, "", f"s{n % 2}", f"T {n}" if n % 3 else ""), samples)
        for n in numbers
        for name, samples in [recording(n)]
    )
    write_shards(pairs, folder, sample_rate=rate, shard_hours=1.2 / 3600)


@pytest.fixture(scope="session")
def _template(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    write(folder / "train")
    return folder


@pytest.fixture
def folder(_template, tmp_path):
    """<folder>/train: 12 utterances in 5 shards."""
    return shutil.copytree(_template, tmp_path / "data")


class Handler(http.server.SimpleHTTPRequestHandler):
    """Files, and pieces of them; counts the bytes of bodies, fails where told."""

    ranges, sent, failures = True, 0, {}

    def do_GET(self):
        name = self.path.rsplit("/", 1)[-1]
        if self.failures.get(name, 0) > 0:
            self.failures[name] -= 1
            self.send_error(503)
            return
        piece = self.headers.get("Range")
        if piece is None or not self.ranges:
            super().do_GET()
            return
        try:
            with open(self.translate_path(self.path), "rb") as file:
                data = file.read()
        except FileNotFoundError:
            self.send_error(404)
            return
        start, end = map(int, piece.removeprefix("bytes=").split("-"))
        data = data[start : end + 1]
        type(self).sent += len(data)
        self.send_response(206)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(folder):
    """(URL of ``folder``, the class that answers)."""
    handler = type("H", (Handler,), {"failures": {}, "sent": 0})
    serve = functools.partial(handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), serve) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_address[1]}", handler
        storage._session.cache_clear()
        httpd.shutdown()
        thread.join()


def dataset_of(data_folder, split="train", low=0.0, high=100.0, cache_gb=0, **options):
    return make_shard_dataset(
        find_shards(data_folder, split),
        reader=AudioReader(RATE, cache_gb),
        min_seconds=low,
        max_seconds=high,
        **options,
    )


def loader_of(dataset, num_workers=0, batch_seconds=2.0, ranks=(0, 1), epoch=1):
    loader = make_loader(
        dataset,
        batch_seconds=batch_seconds,
        shuffle=True,
        seed=0,
        min_samples=100,
        num_workers=num_workers,
        ranks=ranks,
    )
    loader.batch_sampler.set_epoch(epoch)
    return loader


def heard(loader):
    """[(name, samples)], padding removed."""
    found = []
    for batch in loader:
        sizes = (batch.sig.lengths * batch.sig.data.shape[1]).round().int().tolist()
        signals = zip(batch.sig.data, sizes, strict=True)
        found += zip(batch.id, (s[:size].numpy() for s, size in signals), strict=True)
    return found


def assert_complete(found, numbers=range(COUNT)):
    """Every utterance once, with the samples that were written."""
    assert sorted(name for name, _ in found) == [recording(n)[0] for n in numbers]
    samples = dict(found)
    for number in numbers:
        name, expected = recording(number)
        assert np.array_equal(samples[name], expected)


# The same from everywhere


def test_a_folder_of_shards_is_found_and_one_of_files_is_not(folder, tmp_path):
    assert len(find_shards(folder, "train")) == COUNT
    (tmp_path / "data" / "files").mkdir()
    assert find_shards(folder, "files") is None


def test_items_are_what_was_written(folder):
    dataset = dataset_of(folder)
    dataset.set_output_keys(["id", "sig", "speaker", "text"])
    assert len(dataset) == COUNT
    for number in range(COUNT):
        item, (name, samples) = dataset[number], recording(number)
        assert (item["id"], item["speaker"]) == (name, f"s{number % 2}")
        assert item["text"] == (f"T {number}" if number % 3 else "")
        assert np.array_equal(item["sig"].numpy(), samples)


def test_joined_splits_are_read_one_after_the_other(folder):
    write(folder / "more", range(20, 23))
    dataset = dataset_of(folder, "train+more")
    names = [dataset[number]["id"] for number in range(len(dataset))]
    assert names == [recording(n)[0] for n in [*range(COUNT), 20, 21, 22]]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_loader_gives_every_utterance_once(folder, num_workers):
    assert_complete(heard(loader_of(dataset_of(folder), num_workers)))


def test_two_ranks_with_two_workers_give_every_utterance_once(folder):
    found = []
    for rank in (0, 1):
        found += heard(loader_of(dataset_of(folder), 2, ranks=(rank, 2)))
    assert_complete(found)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_shards_are_read_over_http(server, num_workers):
    assert_complete(heard(loader_of(dataset_of(server[0]), num_workers)))


def test_over_http_only_the_audio_of_a_rank_is_fetched(server):
    url, handler = server
    list(loader_of(dataset_of(url), ranks=(0, 2)))
    audio = sum(len(recording(n)[1]) * 2 for n in range(COUNT))  # noise: not smaller
    assert 0.3 * audio < handler.sent < 0.8 * audio


def test_shards_are_read_from_an_object_store(folder):
    """fsspec's store in memory stands for s3:// and the like."""
    store = fsspec.filesystem("memory")
    store.put(str(folder), "/bucket", recursive=True)
    assert_complete(heard(loader_of(dataset_of("memory://bucket"))))
    store.rm("/bucket", recursive=True)


def test_a_store_that_needs_a_package_is_told_in_one_sentence():
    with pytest.raises(BadInput, match="nostore:// cannot be read: Protocol not known"):
        find_shards("nostore://bucket", "train")


def test_the_cache_keeps_decoded_audio(folder):
    dataset = dataset_of(folder, cache_gb=1)
    first = heard(loader_of(dataset))
    for path in (folder / "train" / "shar").glob("*.tar"):
        path.unlink()
    again = heard(loader_of(dataset))
    assert_complete(first)
    assert_complete(again)


def test_masks_are_those_of_the_same_utterance_in_a_file(folder):
    masking = SpanMasking(mask_prob=0.1, mask_length_ms=60)
    frontend = FrontEnd()
    item = MaskItem(frontend, masking)
    dataset = dataset_of(folder, items=[(item, ["sig", "id"], "mask")])
    for number in range(COUNT):
        name, samples = recording(number)
        expected = masking(frontend.num_frames(len(samples)), name, 0)
        assert torch.equal(dataset[number]["mask"], expected)


# What is left out


def test_short_and_long_utterances_are_left_out_and_counted(folder, caplog):
    with caplog.at_level(logging.WARNING):
        dataset = dataset_of(folder, low=0.4, high=0.6)  # 4800 + 800 n samples
    numbers = [n for n in range(COUNT) if 6400 <= 4800 + 800 * n <= 9600]
    assert f"left out {COUNT - len(numbers)} of {COUNT} utterances" in caplog.text
    assert_complete(heard(loader_of(dataset)), numbers)


def test_utterances_without_text_are_left_out_where_text_is_needed(folder):
    dataset = dataset_of(folder, needs_text=True)
    assert_complete(heard(loader_of(dataset)), [n for n in range(COUNT) if n % 3])


def test_nothing_left_is_refused(folder):
    with pytest.raises(BadInput, match=r"no utterance of .* is left: all 12"):
        dataset_of(folder, low=50)


def test_all_transcripts_can_be_listed(folder):
    texts = list(Shards([f"{folder}/train"]).texts())
    assert texts == [f"T {n}" for n in range(COUNT) if n % 3]


# Exact resume


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("seen", [1, 3])
def test_a_loader_continues_where_it_was_saved(folder, tmp_path, seen, num_workers):
    whole = [batch.id for batch in loader_of(dataset_of(folder))]
    first = loader_of(dataset_of(folder), num_workers)
    iterator = iter(first)
    for _ in range(seen):
        next(iterator)
    first._speechbrain_save(tmp_path / "loader.ckpt")
    second = loader_of(dataset_of(folder), num_workers)
    second._speechbrain_load(tmp_path / "loader.ckpt", end_of_epoch=False)
    assert [batch.id for batch in second] == whole[seen:]
    assert len(whole) > seen


# Faults


def tar(folder, number):
    return folder / "train" / "shar" / f"recording.{number:06d}.tar"


def survivors(data_folder, caplog):
    with caplog.at_level(logging.WARNING):
        found = heard(loader_of(dataset_of(data_folder)))
    return sorted(name for name, _ in found)


def test_a_missing_shard_is_named_once_and_the_others_are_read(folder, caplog):
    lost = len(np.load(folder / "train" / "tables" / "000001.npy"))
    tar(folder, 1).unlink()
    assert len(survivors(folder, caplog)) == COUNT - lost
    assert lost > 1
    assert caplog.text.count("recording.000001.tar: unreadable") == 1


def test_a_damaged_utterance_is_named_and_counted(folder, caplog):
    row = np.load(folder / "train" / "tables" / "000001.npy")[0]
    with open(tar(folder, 1), "rb+") as file:
        file.seek(int(row["start"]))
        file.write(bytes(100))
    assert len(survivors(folder, caplog)) == COUNT - 1
    assert "recording.000001.tar (utterance 0): unreadable" in caplog.text
    assert "; 1 now" in caplog.text


def test_a_shard_that_was_cut_short_loses_its_end_only(folder, caplog):
    row = np.load(folder / "train" / "tables" / "000001.npy")[-1]
    with open(tar(folder, 1), "rb+") as file:
        file.truncate(int(row["start"]) + 10)
    assert len(survivors(folder, caplog)) == COUNT - 1
    assert "ends before byte" in caplog.text


@pytest.mark.parametrize("content", [None, b"", b"no table"])
def test_a_missing_or_damaged_table_loses_its_shard_only(folder, caplog, content):
    path = folder / "train" / "tables" / "000002.npy"
    lost = len(np.load(path))
    path.unlink() if content is None else path.write_bytes(content)
    assert len(survivors(folder, caplog)) == COUNT - lost
    assert caplog.text.count("recording.000002.tar: unreadable (its table") == 1


@pytest.mark.parametrize(
    "content", [None, b"", b"no gzip", gzip.compress(b'{"id": 1}')]
)
def test_audio_without_its_cuts_is_still_heard(folder, caplog, content):
    path = folder / "train" / "shar" / "cuts.000000.jsonl.gz"
    count = len(np.load(folder / "train" / "tables" / "000000.npy"))
    path.unlink() if content is None else path.write_bytes(content)
    names = survivors(folder, caplog)
    assert len(names) == COUNT
    assert names[:count] == [f"000000-{row}" for row in range(count)]
    assert caplog.text.count("cuts of shard 000000") == 1


def test_transcripts_that_cannot_be_listed_are_refused(folder):
    (folder / "train" / "shar" / "cuts.000000.jsonl.gz").unlink()
    with pytest.raises(BadInput, match="cuts of shard 000000 unreadable"):
        list(Shards([f"{folder}/train"]).texts())


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"sample_rate": 1, "shards": [1]}']
)
def test_a_damaged_index_is_refused(folder, content):
    (folder / "train" / "index.json").write_text(content)
    with pytest.raises(BadInput, match=r"its index.json cannot be read .*birq shard"):
        find_shards(folder, "train")


def test_shards_that_are_not_finished_are_refused(folder):
    (folder / "train" / "index.json").unlink()
    with pytest.raises(BadInput, match="are not finished"):
        find_shards(folder, "train")


def test_an_index_of_other_lengths_is_refused(folder):
    np.save(folder / "train" / "samples.npy", np.ones(3, np.uint32))
    with pytest.raises(BadInput, match="do not belong together"):
        find_shards(folder, "train")


def test_missing_lengths_are_refused(folder):
    (folder / "train" / "samples.npy").unlink()
    with pytest.raises(BadInput, match=r"samples.npy of the shards in .* unreadable"):
        find_shards(folder, "train")


def test_shards_and_files_do_not_join(folder):
    (folder / "files").mkdir()
    with pytest.raises(BadInput, match="joins shards and folders of audio files"):
        find_shards(folder, "train+files")


def test_splits_of_several_rates_do_not_join(folder):
    write(folder / "low", range(2), rate=8000)
    with pytest.raises(BadInput, match="several rates"):
        find_shards(folder, "train+low")


def test_another_rate_is_resampled(folder):
    write(folder / "low", [3], rate=8000)
    dataset = dataset_of(folder, "low", low=0.89, high=0.91)  # 7200 samples at 8 kHz
    assert len(dataset[0]["sig"]) == 2 * 7200


# Faults of a server


def test_no_shards_behind_a_url_is_refused(server):
    with pytest.raises(BadInput, match=r"no shards in http.*/dev: .*404"):
        find_shards(server[0], "dev")


def test_a_server_without_range_requests_is_refused(server):
    url, handler = server
    handler.ranges = False
    with pytest.raises(BadInput, match="does not know Range requests"):
        find_shards(url, "train")


def test_a_server_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(storage, "RETRIES", storage.Retry(0))
    storage._session.cache_clear()
    with pytest.raises(BadInput, match=r"no shards in http://127\.0\.0\.1:1/train"):
        find_shards("http://127.0.0.1:1", "train")
    storage._session.cache_clear()


@pytest.fixture
def patient(monkeypatch):
    """Retries without a pause."""
    retries = storage.RETRIES.new(backoff_factor=0)
    monkeypatch.setattr(storage, "RETRIES", retries)
    storage._session.cache_clear()


@pytest.mark.usefixtures("patient")
def test_a_server_that_fails_now_and_then_is_asked_again(server):
    url, handler = server
    handler.failures |= {"recording.000001.tar": 2, "index.json": 2}
    assert_complete(heard(loader_of(dataset_of(url))))


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("fault", ["missing", "failing"])
def test_a_shard_that_the_server_does_not_give_is_named(server, folder, caplog, fault):
    url, handler = server
    lost = len(np.load(folder / "train" / "tables" / "000001.npy"))
    if fault == "missing":
        tar(folder, 1).unlink()
    else:
        handler.failures["recording.000001.tar"] = 10_000
    assert len(survivors(url, caplog)) == COUNT - lost
    assert "recording.000001.tar" in caplog.text


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_rank_too_many_gets_nothing_instead_of_a_batch(folder, num_workers):
    dataset = dataset_of(folder)
    ranks = (COUNT, COUNT + 1)
    loader = loader_of(dataset, num_workers, batch_seconds=0.1, ranks=ranks)
    assert list(loader) == [None]
