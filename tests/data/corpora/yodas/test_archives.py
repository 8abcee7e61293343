"""Archives of YODAS with corrupt, missing or hostile contents."""

import io
import json
import logging
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from local_hub import add_archive, sound, tar_gz, utterances
from small_yodas import (
    sound_of,
    written,
)

from speechbrain_birq.data.corpora.yodas.archives import decode
from speechbrain_birq.errors import BadInput


def test_audio_is_mono_at_16_khz_and_the_one_of_the_archive(prepare, hub, tmp_path):
    time = np.arange(48_000) / 24_000
    name = "abcdefghijk-00000-00000000-00000200"
    tone = 0.5 * np.sin(2 * np.pi * 440 * time)
    files = {}
    add_archive(files, "en000/00000000", {name: 2.0, **utterances("other", 2, 1.0)})
    member = (f"x/{name}.wav", sound_of(np.stack([tone, 0 * tone], 1), 24_000))
    others = [(f"{u}.wav", sound(1)) for u in utterances("other", 2, 1.0)]
    files["data/en000/audio/00000000.tar.gz"] = tar_gz([member, *others])
    hub.files = files
    prepare(hours=3.9 / 3600, dev_hours=0)
    shar = tmp_path / "shards" / "train" / "shar"
    with tarfile.open(shar / "recording.en000-00000000.tar") as tar:
        flac = io.BytesIO(tar.extractfile(f"{name}.flac").read())
    audio, rate = soundfile.read(flac)
    assert (rate, audio.shape) == (16_000, (32_000,))
    expected = 0.25 * np.sin(2 * np.pi * 440 * np.arange(32_000) / 16_000)
    assert np.abs(audio - expected)[500:-500].max() < 1e-3


def change_archives(hub, change):
    """Replace each archive of audio by what ``change`` makes of its members."""
    for path in [p for p in hub.files if "/audio/" in p]:
        with tarfile.open(fileobj=io.BytesIO(hub.files[path])) as archive:
            members = [(m.name, archive.extractfile(m).read()) for m in archive]
        hub.files[path] = tar_gz(change(members))


def test_an_unreadable_member_is_skipped_counted_and_named(
    prepare, complete, hub, tmp_path, caplog
):
    bad = sorted(complete.chosen["train"])[3]
    change_archives(hub, lambda ms: [(n, b"RIFF" if bad in n else d) for n, d in ms])
    with caplog.at_level(logging.WARNING):
        counts = prepare()
    assert counts["unreadable"] == 1
    assert f"skipped {bad}: unreadable" in caplog.text
    assert written(tmp_path / "shards", "train").keys() == complete.chosen["train"] - {
        bad
    }


def test_audio_of_another_length_than_listed_is_left_out(
    prepare, complete, hub, tmp_path
):
    long, short = sorted(complete.chosen["train"])[3:5]
    lengths = {long: sound(3), short: sound(0.2)}
    change_archives(hub, lambda ms: [(n, lengths.get(Path(n).stem, d)) for n, d in ms])
    assert prepare(max_seconds=2.5)["wrong_length"] == 2
    there = written(tmp_path / "shards", "train").keys()
    assert there == complete.chosen["train"] - {long, short}


def test_a_missing_member_is_counted_and_named(prepare, complete, hub, caplog):
    gone = sorted(complete.chosen["train"])[3]
    change_archives(hub, lambda ms: [(n, d) for n, d in ms if gone not in n])
    with caplog.at_level(logging.WARNING):
        assert prepare()["missing"] == 1
    assert f"1 utterances missing: {gone}" in caplog.text


def test_a_member_that_comes_twice_is_written_once(prepare, complete, hub, tmp_path):
    change_archives(hub, lambda ms: ms + ms)
    assert prepare() == complete.counts
    assert written(tmp_path / "shards", "train").keys() == complete.chosen["train"]


def test_members_that_lead_out_of_the_archive_are_never_written(
    prepare, complete, hub, tmp_path
):
    evil = sorted(complete.chosen["train"])[3]
    change_archives(
        hub,
        lambda ms: (
            [(f"../../{evil}.wav" if evil in n else n, d) for n, d in ms]
            + [("../../evil.wav", sound(1)), ("/tmp/evil-birq.wav", sound(1))]
        ),
    )
    before = {path for path in tmp_path.rglob("*")}
    assert prepare()["missing"] == 1
    new = {p for p in tmp_path.rglob("*") if p not in before}
    assert all(
        p == tmp_path / "shards" or tmp_path / "shards" in p.parents for p in new
    )
    assert not list(tmp_path.rglob("*evil*"))
    assert not Path("/tmp/evil-birq.wav").exists()


def test_an_archive_whose_end_is_missing_gives_its_beginning(prepare, hub, caplog):
    for path in [p for p in hub.files if "/audio/" in p]:
        hub.files[path] = hub.files[path][: len(hub.files[path]) // 2]
    with caplog.at_level(logging.WARNING):
        counts = prepare(dev_hours=0)
    assert "the rest cannot be read" in caplog.text
    assert 10 < counts["written"] < counts["missing"] + 10


def test_a_text_that_lacks_an_utterance_leaves_it_empty(
    prepare, complete, hub, tmp_path
):
    bare = sorted(complete.chosen["train"])[3]
    for path in [p for p in hub.files if "/text/" in p]:
        lines = hub.files[path].decode().splitlines(keepends=True)
        hub.files[path] = "".join(x for x in lines if bare not in x).encode()
    assert prepare()["without_text"] == 1
    cut = written(tmp_path / "shards", "train")[bare]
    assert "text" not in cut["supervisions"][0]


@pytest.mark.parametrize("part", ["text", "duration"])
def test_a_missing_annotation_file_ends_it_before_anything_is_fetched(
    prepare, hub, part
):
    hub.files = {p: d for p, d in hub.files.items() if p != lacking(part)}
    with pytest.raises(BadInput, match=f"no {lacking(part)}"):
        prepare()
    assert hub.served == []


def lacking(part):
    return f"data/en001/{part}/00000001.txt"


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100])
def test_any_rate_becomes_16_khz(rate):
    assert len(decode(sound(1.0, rate), 30)) == 16_000


@pytest.mark.parametrize(
    "data, words",
    [
        (b"", "unreadable"),
        (sound(1)[:40], "unreadable"),
        (sound(1, 1000), "1000 Hz"),
        (sound_of(np.zeros((100, 9)), 16_000), "9 channels"),
    ],
)
def test_what_is_no_usable_audio_is_told(data, words):
    with pytest.raises(ValueError, match=words):
        decode(data, 30)


def test_no_more_is_decoded_than_could_be_kept():
    assert len(decode(sound(5), 2)) == 3 * 16_000


def test_an_archive_with_nothing_in_it_is_done(prepare, hub, tmp_path):
    first = next(path for path in sorted(hub.files) if "/audio/" in path)
    hub.files[first] = tar_gz([])
    assert prepare()["missing"] > 0
    folder = tmp_path / "shards" / "train"
    index = json.loads((folder / "index.json").read_text())
    tables = {path.stem for path in (folder / "tables").iterdir()}
    assert tables - {shard["name"] for shard in index["shards"]} <= {"en000-00000000"}
    utterances = sum(shard["utterances"] for shard in index["shards"])
    assert utterances == len(written(tmp_path / "shards", "train"))
