"""YODAS from a hub to shards: whole, once, however often it is killed on the way."""

import errno
import gzip
import io
import json
import logging
import os
import random
import runpy
import shutil
import signal
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import numpy as np
import pytest
import soundfile
from huggingface_hub import file_download
from local_hub import LocalHub, add_archive, made_up_yodas, sound, tar_gz, utterances
from small_runs import process_wide_settings_restored

from speechbrain_birq.config.loader import flatten
from speechbrain_birq.data.corpora.yodas import archives as yodas_archives
from speechbrain_birq.data.corpora.yodas import hub as hub_module
from speechbrain_birq.data.corpora.yodas import prepare as yodas
from speechbrain_birq.data.corpora.yodas.archives import decode
from speechbrain_birq.data.corpora.yodas.prepare import find_yodas, prepare_yodas
from speechbrain_birq.data.corpora.yodas.sampling import video
from speechbrain_birq.data.corpora.yodas.utterance_list import UtteranceList
from speechbrain_birq.data.shards import writer as shards
from speechbrain_birq.errors import BadInput

ROOT = Path(__file__).parents[3]
SPLITS = dict(hours=36 / 3600, dev_hours=6 / 3600)


@pytest.fixture(scope="module")
def corpus():
    return made_up_yodas()


@pytest.fixture
def hub(monkeypatch, corpus):
    monkeypatch.setattr(hub_module, "WAIT", 0)
    monkeypatch.setattr(file_download.time, "sleep", lambda seconds: None)
    # Shards of 9 s: one spans two archives.
    monkeypatch.setattr(
        yodas,
        "write_shards",
        lambda *a: shards.write_shards(*a, shard_hours=9 / 3600),
    )
    with LocalHub(corpus).running() as hub:
        yield hub
    huggingface_hub.close_session()


@pytest.fixture
def prepare(hub, tmp_path):
    """prepare(**options) -> counts; into tmp_path / "shards"."""

    def run(folder=tmp_path / "shards", **options):
        return prepare_yodas(folder, endpoint=hub.endpoint, **(SPLITS | options))

    return run


def written(folder, split):
    """{name: cut} of the finished shards, each name once."""
    cuts = []
    for path in sorted((folder / split / "shar").glob("cuts.*")):
        with gzip.open(path, "rt") as lines:
            cuts += map(json.loads, lines)
    assert len({cut["id"] for cut in cuts}) == len(cuts)
    return {cut["id"]: cut for cut in cuts}


def chosen(folder, split):
    lists = UtteranceList(folder).utterances()
    return {u for _, splits in lists for u, s in splits.items() if s == split}


def shard_files(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for split in ("dev", "train")
        for path in sorted((folder / split).rglob("*"))
        if path.suffix in (".tar", ".npy", ".json")
    }


@pytest.fixture(scope="module")
def _whole():
    return {}


@pytest.fixture
def whole(_whole, prepare, tmp_path):
    """A folder that was prepared without a fault; made once."""
    if not _whole:
        folder = tmp_path / "shards"
        _whole["counts"] = prepare(folder)
        _whole["files"] = shard_files(folder)
        _whole["splits"] = {s: written(folder, s) for s in ("dev", "train")}
        _whole["chosen"] = {s: chosen(folder, s) for s in ("dev", "train")}
        _whole["left"] = sorted(path.name for path in folder.iterdir())
        shutil.rmtree(folder)
    return SimpleNamespace(**_whole)


def test_the_shards_hold_what_was_chosen(whole):
    for split in ("dev", "train"):
        assert whole.splits[split].keys() == whole.chosen[split]
    assert whole.counts == {
        "written": sum(map(len, whole.chosen.values())),
        "without_text": 0,
    }


def test_texts_and_videos_are_kept(whole):
    for name, cut in whole.splits["train"].items():
        (supervision,) = cut["supervisions"]
        assert supervision["text"] == f"words of {name[-3:]}"
        assert supervision["speaker"] == video(name)


def test_hours_are_those_asked_for(whole):
    for split, seconds in (("train", 36), ("dev", 6)):
        hold = sum(cut["duration"] for cut in whole.splits[split].values())
        assert seconds <= hold < seconds + 1.2


def test_no_video_of_dev_is_in_train(whole):
    dev, train = ({video(u) for u in whole.splits[s]} for s in ("dev", "train"))
    assert dev and not dev & train


def test_only_shards_and_lists_are_left(whole):
    assert whole.left == [
        *(".lock", "dev", "prepared.json"),
        *("selection.json", "selection.tsv.gz", "train"),
    ]


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
    with tarfile.open(tmp_path / "shards/train/shar/recording.000000.tar") as tar:
        flac = io.BytesIO(tar.extractfile(f"{name}.flac").read())
    audio, rate = soundfile.read(flac)
    assert (rate, audio.shape) == (16_000, (32_000,))
    expected = 0.25 * np.sin(2 * np.pi * 440 * np.arange(32_000) / 16_000)
    assert np.abs(audio - expected)[500:-500].max() < 1e-3


def sound_of(samples, rate):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV")
    return file.getvalue()


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


class Killed(BaseException):
    """As a signal would: nothing catches it."""


def killing(function, after):
    """The function, until it was called so often."""
    calls = iter(range(after))

    def call(*args, **options):
        if next(calls, None) is None:
            raise Killed
        return function(*args, **options)

    return call


KILLS = [
    (yodas_archives, "decode", 12),
    (shards, "_as_pcm", 12),
    (shards._Shard, "finish", 2),
    (yodas_archives.Prepared, "add", 2),
    (file_download, "http_get", 4),
]


@pytest.mark.parametrize("seed", range(3))
def test_a_run_killed_again_and_again_writes_the_same_shards(
    prepare, whole, tmp_path, monkeypatch, seed
):
    """Killed while reading members, while writing shards, while fetching files."""
    rng, kills, counts = random.Random(seed), 0, None
    while counts is None:
        target, name, at_most = rng.choice(KILLS)
        with monkeypatch.context() as patch:
            killed = killing(getattr(target, name), rng.randint(1, at_most))
            patch.setattr(target, name, killed)
            try:
                counts = prepare()
            except Killed:
                kills += 1
    assert kills >= 2
    assert counts == whole.counts
    assert shard_files(tmp_path / "shards") == whole.files


def test_a_killed_run_neither_fetches_nor_decodes_again_what_is_done(
    prepare, whole, hub, monkeypatch
):
    finished = len(whole.chosen["dev"]) + 20
    with monkeypatch.context() as patch:
        patch.setattr(yodas_archives, "decode", killing(decode, finished))
        with pytest.raises(Killed):
            prepare()
    decoded = []
    monkeypatch.setattr(
        yodas_archives, "decode", lambda *a: decoded.append(1) or decode(*a)
    )
    prepare()
    total = sum(map(len, whole.chosen.values()))
    # A shard of 4 s was open: 3 to 4 utterances.
    assert total - finished <= len(decoded) <= total - finished + 4
    archives = Counter(path for path, _, _ in hub.served if "/audio/" in path)
    assert set(archives.values()) == {1}


def test_a_continued_run_keeps_to_the_commit_of_its_list(
    prepare, whole, hub, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(yodas_archives, "decode", killing(decode, 20))
        with pytest.raises(Killed):
            prepare()
    hub.revisions.remove("main")
    assert prepare() == whole.counts


def test_a_finished_folder_asks_nobody(prepare, hub):
    counts = prepare()
    hub.server.shutdown()
    asked = len(hub.served)
    assert prepare() == counts
    assert len(hub.served) == asked


def test_a_cut_connection_and_a_wrong_hash_change_nothing(
    prepare, whole, hub, tmp_path
):
    archives = [p for p in hub.files if "/audio/" in p]
    hub.faults = {p: [("cut", 9_000), ("wrong", 5_000)] for p in archives}
    hub.faults |= {p: [("short", 9)] for p in hub.files if "/text/" in p}
    assert prepare() == whole.counts
    assert shard_files(tmp_path / "shards") == whole.files


def test_what_cannot_be_had_ends_the_run_with_a_sentence_and_it_goes_on_later(
    prepare, whole, hub, tmp_path
):
    hub.faults = {p: [("gone", 0)] * 9 for p in hub.files if "/audio/0" in p}
    with pytest.raises(
        BadInput, match=r"gave up data/en00.*give the same command again"
    ):
        prepare()
    hub.faults = {}
    assert prepare() == whole.counts
    assert shard_files(tmp_path / "shards") == whole.files


def damaged(hub, change):
    """Replace each archive of audio by what ``change`` makes of its members."""
    for path in [p for p in hub.files if "/audio/" in p]:
        with tarfile.open(fileobj=io.BytesIO(hub.files[path])) as archive:
            members = [(m.name, archive.extractfile(m).read()) for m in archive]
        hub.files[path] = tar_gz(change(members))


def test_an_unreadable_member_is_skipped_counted_and_named(
    prepare, whole, hub, tmp_path, caplog
):
    bad = sorted(whole.chosen["train"])[3]
    damaged(hub, lambda ms: [(n, b"RIFF" if bad in n else d) for n, d in ms])
    with caplog.at_level(logging.WARNING):
        counts = prepare()
    assert counts["unreadable"] == 1
    assert f"skipped {bad}: unreadable" in caplog.text
    assert written(tmp_path / "shards", "train").keys() == whole.chosen["train"] - {bad}


def test_audio_of_another_length_than_listed_is_left_out(prepare, whole, hub, tmp_path):
    long, short = sorted(whole.chosen["train"])[3:5]
    lengths = {long: sound(3), short: sound(0.2)}
    damaged(hub, lambda ms: [(n, lengths.get(Path(n).stem, d)) for n, d in ms])
    assert prepare(max_seconds=2.5)["wrong_length"] == 2
    there = written(tmp_path / "shards", "train").keys()
    assert there == whole.chosen["train"] - {long, short}


def test_a_missing_member_is_counted_and_named(prepare, whole, hub, caplog):
    gone = sorted(whole.chosen["train"])[3]
    damaged(hub, lambda ms: [(n, d) for n, d in ms if gone not in n])
    with caplog.at_level(logging.WARNING):
        assert prepare()["missing"] == 1
    assert f"1 utterances missing: {gone}" in caplog.text


def test_a_member_that_comes_twice_is_written_once(prepare, whole, hub, tmp_path):
    damaged(hub, lambda ms: ms + ms)
    assert prepare() == whole.counts
    assert written(tmp_path / "shards", "train").keys() == whole.chosen["train"]


def test_members_that_lead_out_of_the_archive_are_never_written(
    prepare, whole, hub, tmp_path
):
    evil = sorted(whole.chosen["train"])[3]
    damaged(
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


def test_an_archive_whose_end_is_damaged_gives_its_beginning(prepare, hub, caplog):
    for path in [p for p in hub.files if "/audio/" in p]:
        hub.files[path] = hub.files[path][: len(hub.files[path]) // 2]
    with caplog.at_level(logging.WARNING):
        counts = prepare(dev_hours=0)
    assert "the rest cannot be read" in caplog.text
    assert 10 < counts["written"] < counts["missing"] + 10


def test_a_text_that_lacks_an_utterance_leaves_it_empty(prepare, whole, hub, tmp_path):
    bare = sorted(whole.chosen["train"])[3]
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


def test_a_disk_too_small_ends_it_before_the_first_byte(prepare, hub, monkeypatch):
    monkeypatch.setattr(
        yodas.shutil, "disk_usage", lambda path: SimpleNamespace(free=399e9)
    )
    with pytest.raises(BadInput, match=r"399\.0 GB free.*need about 400\.0 GB"):
        prepare(hours=4990, dev_hours=10)
    assert hub.served == []


def test_the_estimate_is_printed(prepare, capsys):
    prepare()
    told = capsys.readouterr()
    assert told.out.startswith("disk: about 0.0 GB needed (0.0 h of FLAC at 80 MB")
    assert "CC BY 3.0" in told.out
    assert "left" in told.err and "of 0.0 h" in told.err


def test_a_disk_that_fills_up_is_one_sentence_and_it_goes_on_later(
    prepare, whole, monkeypatch, tmp_path
):
    def full(self):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shards._Shard, "finish", full)
        with pytest.raises(BadInput, match="no space left on the disk"):
            prepare()
    assert prepare() == whole.counts
    assert shard_files(tmp_path / "shards") == whole.files


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


def test_two_runs_in_one_folder_are_refused(prepare, hub):
    told = []

    def second(path):
        hub.before = lambda path: None
        try:
            prepare()
        except BadInput as error:
            told.append(str(error))

    hub.before = second
    prepare()
    assert len(told) == 1 and "another run prepares" in told[0]


def test_a_folder_that_cannot_be_made_is_one_sentence(prepare, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match=r"cannot write .*--output_folder"):
        prepare(tmp_path / "file" / "shards")


def test_a_damaged_state_is_one_sentence(prepare, tmp_path):
    prepare()
    (tmp_path / "shards" / "prepared.json").write_text("{")
    with pytest.raises(BadInput, match=r"prepared\.json is damaged"):
        prepare()


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


def test_the_recipe_takes_what_the_function_takes(hub, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        sys,
        "argv",
        [
            *("prepare.py", "--output_folder", str(tmp_path / "shards")),
            *("--hours", "0.005", "--dev_hours", "0.001", "--seed", "3"),
            *("--languages", "en001", "en000", "--endpoint", hub.endpoint),
            *("--min_seconds", "0.6", "--max_seconds", "10", "--revision", "main"),
        ],
    )
    runpy.run_path(str(ROOT / "recipes" / "YODAS" / "prepare.py"), run_name="__main__")
    settings = json.loads((tmp_path / "shards" / "selection.json").read_text())
    assert settings["settings"] == {
        "hours": 0.005,
        "dev_hours": 0.001,
        "seed": 3,
        "languages": ["en000", "en001"],
        "min_seconds": 0.6,
        "max_seconds": 10.0,
        "revision": "main",
    }
    assert "written" in capsys.readouterr().out


def pretrain(shards, output_folder, monkeypatch):
    """recipes/YODAS/pretrain.py with the tiniest of models."""
    yaml = str(ROOT / "hparams" / "birq_tiny.yaml")
    tiny = "--num_layers=2 --d_model=16 --nhead=2 --d_ffn=32 --label_layer=1"
    short = "--train_split=train --batch_seconds=6 --number_of_epochs=1 --device=cpu"
    folders = [f"--data_folder={shards}", f"--output_folder={output_folder}"]
    logs = ["--tensorboard=False", "--noprogressbar"]
    argv = ["pretrain.py", yaml, *tiny.split(), *short.split(), *folders, *logs]
    monkeypatch.setattr(sys, "argv", argv)
    recipe = ROOT / "recipes" / "YODAS" / "pretrain.py"
    with process_wide_settings_restored():
        runpy.run_path(str(recipe), run_name="__main__")


@pytest.mark.slow
def test_pretraining_reads_the_shards(prepare, tmp_path, monkeypatch):
    prepare()
    pretrain(tmp_path / "shards", tmp_path / "run", monkeypatch)
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert 7 <= results["steps"] <= 12  # 36 s in batches of at most 6 s
    assert 0 < results["valid"]["G"] < 9


@pytest.mark.slow
def test_a_preparation_killed_in_its_train_part_is_refused_by_pretraining(
    prepare, hub, tmp_path, monkeypatch, fails
):
    with monkeypatch.context() as patch:
        patch.setattr(yodas_archives, "decode", killing(decode, 25))
        with pytest.raises(Killed):
            prepare()
    fails(
        lambda: pretrain(tmp_path / "shards", tmp_path / "run", monkeypatch),
        str(tmp_path / "shards" / "train"),
        "not finished",
    )


@pytest.mark.slow
def test_a_process_that_gets_sigkill_is_continued_by_the_next(hub, whole, tmp_path):
    folder = tmp_path / "shards"
    recipe = ROOT / "recipes" / "YODAS" / "prepare.py"
    command = [sys.executable, recipe, "--output_folder", folder]
    command += ["--endpoint", hub.endpoint]
    command += [f"--{name}={value}" for name, value in SPLITS.items()]
    paths = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def start():
        return subprocess.Popen(
            [*map(str, command)],
            env=os.environ | paths,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    asked = []

    def kill_at_the_second_archive(path):
        if "/audio/" in path and path not in asked:
            asked.append(path)
            if len(asked) == 2:
                process.send_signal(signal.SIGKILL)

    hub.before = kill_at_the_second_archive
    with start() as process:
        process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    fetched = hub.times(asked[0])
    with start() as process:
        told, _ = process.communicate(timeout=120)
    assert process.returncode == 0, told
    assert f"{whole.counts['written']} written" in told
    for split in ("dev", "train"):
        assert written(folder, split).keys() == whole.chosen[split]
    assert hub.times(asked[0]) == fetched  # what is finished is not asked for again


@pytest.mark.parametrize("begun", [False, True])
def test_pretraining_on_shards_that_are_not_there_is_refused(tmp_path, begun):
    if begun:
        UtteranceList(tmp_path).save({}, "c0ffee", [], [])
    words = "not finished: give again" if begun else "prepare them with"
    with pytest.raises(BadInput, match=rf"no shards train and dev.* {words} python"):
        find_yodas(tmp_path, ["train", "dev"], tmp_path)


@pytest.mark.parametrize("name", ["birq_large", "best_rq_large"])
def test_the_papers_model_takes_the_splits_that_are_written(name):
    _, changes = flatten(ROOT / "hparams" / f"{name}.yaml")
    assert (changes["train_split"], changes["valid_split"]) == ("train", "dev")


def test_the_recipe_ends_with_one_sentence(tmp_path, monkeypatch, fails):
    monkeypatch.setattr(
        sys, "argv", ["prepare.py", "--output_folder", str(tmp_path), "--hours", "-1"]
    )
    recipe = str(ROOT / "recipes" / "YODAS" / "prepare.py")
    fails(lambda: runpy.run_path(recipe, run_name="__main__"), "--hours")
