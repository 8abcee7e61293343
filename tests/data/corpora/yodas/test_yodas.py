"""YODAS from a hub to shards: what was drawn is written, once."""

import os
from collections import Counter

import pytest

from speechbrain_birq.checkpoints.run_lock import locked
from speechbrain_birq.data.corpora.yodas.sampling import video
from speechbrain_birq.data.corpora.yodas.utterance_list import UtteranceList
from speechbrain_birq.errors import BadInput


def test_the_shards_hold_what_was_chosen(complete):
    for split in ("dev", "train"):
        assert complete.splits[split].keys() == complete.chosen[split]
    assert complete.counts == {
        "written": sum(map(len, complete.chosen.values())),
        "without_text": 0,
    }


def test_texts_and_videos_are_kept(complete):
    for name, cut in complete.splits["train"].items():
        (supervision,) = cut["supervisions"]
        assert supervision["text"] == f"words of {name[-3:]}"
        assert supervision["speaker"] == video(name)


def test_hours_are_those_asked_for(complete):
    for split, seconds in (("train", 36), ("dev", 6)):
        hold = sum(cut["duration"] for cut in complete.splits[split].values())
        assert seconds <= hold < seconds + 1.2


def test_no_video_of_dev_is_in_train(complete):
    dev, train = ({video(u) for u in complete.splits[s]} for s in ("dev", "train"))
    assert dev and not dev & train


def test_only_shards_and_lists_are_left(complete):
    assert complete.left == [
        ".lock",
        "dev",
        "selection.json",
        "selection.tsv.gz",
        "train",
    ]


def test_the_list_is_saved_before_any_audio_is_asked_for(prepare, hub, tmp_path):
    seen = []

    def look(path):
        if "/audio/" in path:
            seen.append(UtteranceList(tmp_path / "shards").exists())

    hub.before = look
    prepare()
    assert seen and all(seen)


def test_each_archive_is_downloaded_once(prepare, hub):
    prepare()
    archives = Counter(path for path, _, _ in hub.served if "/audio/" in path)
    assert set(archives.values()) == {1}


def test_the_estimate_is_printed(prepare, capsys):
    prepare()
    printed = capsys.readouterr()
    assert printed.out.startswith("disk: about 0.0 GB needed (0.0 h of FLAC at 80 MB")
    assert "CC BY 3.0" in printed.out
    assert "left" in printed.err and "of 0.0 h" in printed.err


@pytest.mark.parametrize(
    "option", [{"seed": 1}, {"hours": 0.005}, {"languages": ["en000"]}]
)
def test_other_arguments_for_the_same_folder_are_refused(prepare, option):
    prepare()
    with pytest.raises(BadInput, match=f"was begun with --{next(iter(option))}"):
        prepare(**option)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"hours": 0}, "--hours"),
        ({"hours": float("nan")}, "--hours"),
        ({"dev_hours": -1}, "--dev_hours"),
        ({"min_seconds": 3, "max_seconds": 2}, "--max_seconds"),
        ({"min_seconds": 0}, "--min_seconds"),
    ],
)
def test_arguments_without_sense_are_refused(prepare, hub, options, words):
    with pytest.raises(BadInput, match=words):
        prepare(**options)
    assert hub.served == []


def test_each_archive_and_split_is_a_shard(complete):
    for split in ("dev", "train"):
        shards = {name for name in complete.files if name.startswith(f"{split}/shar/")}
        archives = {cut["archive"] for cut in complete.drawn if cut["split"] == split}
        assert shards == {
            f"{split}/shar/recording.{name.replace('/', '-')}.tar" for name in archives
        }


@pytest.mark.faults
def test_a_folder_that_another_process_prepares_is_refused(prepare, hub, tmp_path):
    refused = pytest.raises(BadInput, match=f"process {os.getpid()} on")
    with locked(tmp_path / "shards"), refused:
        prepare()
    assert not hub.served
