"""A corpus or a batch size that has changed before a resume is named in the log."""

import shutil
import zlib
from pathlib import Path

import pytest
import soundfile
from small_corpus import tone
from small_runs import log, pretrain

from speechbrain_birq.brains import BiRQBrain
from speechbrain_birq.data import corpus_record, headers
from speechbrain_birq.data.corpora.librispeech import prepare_librispeech
from speechbrain_birq.data.corpus_record import CorpusRecord, checksums
from speechbrain_birq.data.manifest import read_manifest, write_manifest
from speechbrain_birq.data.shards.reader import Shards

pytestmark = pytest.mark.faults

NOT_EXACT = "the run resumes, but not exactly"


def start(corpus, tmp_path, **more):
    """Train one epoch, return a function that trains the second and returns its log."""
    run = tmp_path / "run"
    settings = dict(optimizer_step_limit=None) | more
    pretrain(corpus, run, **settings)
    before = len(log(run))

    def resume(folder=corpus, **more):
        pretrain(folder, run, **settings | dict(number_of_epochs=2) | more)
        return log(run)[before:]

    return resume


def test_removed_added_and_replaced_files_are_counted_and_named(corpus, tmp_path):
    resume = start(corpus, tmp_path)
    train = corpus / "train"
    (train / "11/1/11-1-0000.flac").unlink()
    shutil.copy(train / "13/1/13-1-0001.flac", train / "13/1/13-1-0009.flac")
    # Other sounds in a file of the same name, length and size.
    soundfile.write(train / "12/1/12-1-0000.wav", tone(1.2, 16000, seed=999), 16000)
    told = resume()
    assert told.count(NOT_EXACT) == 1
    (line,) = [line for line in told.splitlines() if NOT_EXACT in line]
    assert "'train'" in line
    for change in ("1 removed (11-1-0000)", "1 added (13-1-0009)"):
        assert change in line
    assert "1 replaced (12-1-0000)" in line


def test_a_corpus_that_was_moved_is_the_same(corpus, tmp_path):
    resume = start(corpus, tmp_path)
    moved = corpus.rename(tmp_path / "elsewhere")
    assert NOT_EXACT not in resume(moved)


class Killed(Exception):
    pass


@pytest.mark.parametrize("within, lines", [(True, 1), (False, 0)])
def test_another_batch_size_within_an_epoch_is_named(
    corpus, tmp_path, monkeypatch, within, lines
):
    more = dict(batch_seconds=2, ckpt_interval_minutes=0, ckpt_interval_steps=1)
    if within:
        fit_batch = BiRQBrain.fit_batch

        def killed(self, batch):
            if self.step == 3:
                raise Killed
            return fit_batch(self, batch)

        monkeypatch.setattr(BiRQBrain, "fit_batch", killed)
        with pytest.raises(Killed):
            pretrain(corpus, tmp_path / "run", optimizer_step_limit=None, **more)
        monkeypatch.undo()
    else:
        start(corpus, tmp_path, **more)
    settings = dict(optimizer_step_limit=None, number_of_epochs=2)
    pretrain(corpus, tmp_path / "run", **settings | more | dict(batch_seconds=3))
    told = log(tmp_path / "run")
    assert told.count("batch_seconds was 2, now it is 3") == lines
    assert told.count(NOT_EXACT) == lines


def test_shards_are_compared_one_by_one(shards, tmp_path, caplog):
    found = Shards([str(shards / "train")])
    record = CorpusRecord({"train": found}, 4)
    record.save(tmp_path / "corpus.ckpt")
    assert len(checksums(found)) == len(found.places)
    found.samples[-1] += 1
    CorpusRecord({"train": found}, 4).load(tmp_path / "corpus.ckpt", True)
    (line,) = caplog.messages
    assert "1 replaced" in line and found.places[-1][1] in line


@pytest.fixture
def opened(corpus, tmp_path, monkeypatch):
    """The manifest of a corpus, and the files that a record has opened."""
    monkeypatch.setattr(headers, "REMEMBERED", 3)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    prepare_librispeech(corpus, ["train"], tmp_path)
    found = []

    def counted(path, *rest, **more):
        found.append(Path(path).name)
        return open(path, *rest, **more)

    monkeypatch.setattr(corpus_record, "open", counted, raising=False)
    return tmp_path / "train.csv", found


def test_files_that_have_not_changed_are_not_opened_at_every_start(opened):
    manifest, files = opened
    first = checksums(manifest)
    assert len(files) == len(first)
    files.clear()
    assert checksums(manifest) == first
    assert files == []


def test_checksums_are_those_of_earlier_versions(opened):
    """Of the text, then of the bytes: a run may have been started years ago."""
    for row in read_manifest(opened[0]):
        data = Path(row.wav).read_bytes()
        middle = max(0, len(data) - 4096) // 2
        text = f"{row.duration}\t{len(data)}\t{row.text}".encode()
        expected = zlib.crc32(text + data[middle : middle + 4096])
        assert checksums(opened[0])[row.ID] == expected


def test_a_file_that_is_gone_has_a_checksum(opened):
    row, *_ = rows = read_manifest(opened[0])
    Path(row.wav).unlink()
    found = checksums(opened[0])
    assert found[row.ID] == zlib.crc32(f"{row.duration}\t-1\t{row.text}".encode())
    assert len(found) == len(rows)


@pytest.mark.parametrize("larger", ["both", "before", "now"])
def test_the_record_of_a_large_split_is_small_and_says_how_many(
    opened, tmp_path, monkeypatch, caplog, larger
):
    path, manifests = tmp_path / "corpus.ckpt", {"train": opened[0]}

    def record(large):
        monkeypatch.setattr(corpus_record, "SPLIT_BYTES", 9 if large else 2**26)
        return CorpusRecord(manifests, 4)

    record(larger != "now").save(path)
    assert (path.stat().st_size < 90) == (larger != "now")
    record(larger != "before").load(path, True)
    assert not caplog.records
    rows = read_manifest(opened[0])
    write_manifest(opened[0], rows[1:])
    record(larger != "before").load(path, True)
    assert f"it had {len(rows)} utterances and has {len(rows) - 1};" in caplog.text


def test_a_record_above_the_bound_is_not_compared_but_the_run_resumes(
    opened, tmp_path, monkeypatch, caplog
):
    record = CorpusRecord({"train": opened[0]}, 4)
    record.save(tmp_path / "corpus.ckpt")
    monkeypatch.setattr(corpus_record, "RECORD_BYTES", 9)
    record.load(tmp_path / "corpus.ckpt", True)
    assert "too large" in caplog.text and "the run resumes" in caplog.text
