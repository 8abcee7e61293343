"""Hugging Face datasets: their audio becomes files and a table, without decoding."""

import json
import logging
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechbrain_birq.data.corpora.audiofolder import metadata_table
from speechbrain_birq.data.corpora.forms import write_manifests
from speechbrain_birq.data.corpora.hugging_face import hub_name
from speechbrain_birq.data.corpora.librispeech import find_utterances
from speechbrain_birq.data.manifest import read_manifest
from speechbrain_birq.errors import BadInput


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The working folder, with three recordings; caches are below it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for number in range(3):
        signal = np.full(8000 * (number + 1), 0.1)
        soundfile.write(f"{number}.flac", signal, 16000)
    return tmp_path


@pytest.fixture
def datasets(own, monkeypatch):
    """The package, if it is installed: it is no part of the core."""
    package = pytest.importorskip("datasets")
    monkeypatch.setattr(package.config, "HF_DATASETS_CACHE", own / "hf")
    package.disable_progress_bars()
    yield package
    package.enable_progress_bars()


@pytest.fixture
def dataset(datasets):
    paths = [f"{number}.flac" for number in range(3)]
    columns = {"audio": paths, "sentence": ["ONE", None, "THREE"], "id": [5, 6, 7]}
    made = datasets.Dataset.from_dict(columns)
    return made.cast_column("audio", datasets.Audio())


def rows(split, data_folder=None):
    found = write_manifests(data_folder, [split], "manifests", find=find_utterances)
    return read_manifest(found[split])


def check(found):
    assert [(u.ID, u.duration, u.text) for u in found] == [
        ("5", 0.5, "ONE"), ("6", 1.0, ""), ("7", 1.5, "THREE")
    ]  # fmt: skip
    for row in found:
        assert soundfile.info(row.wav).frames == row.duration * 16000


def test_a_saved_dataset_is_read_and_written_once(dataset, caplog):
    dataset.save_to_disk("saved")
    with caplog.at_level(logging.INFO):
        check(rows("saved"))
        assert "saved: writes its audio to" in caplog.text
        caplog.clear()
        check(rows("saved"))
    assert "writes its audio" not in caplog.text


def test_a_split_of_a_saved_dictionary_is_a_folder(dataset, datasets):
    datasets.DatasetDict(train=dataset, test=dataset).save_to_disk("saved")
    check(rows("saved/train"))
    check(rows("test", data_folder="saved"))
    with pytest.raises(BadInput, match="splits train, test: name one"):
        rows("saved")


def test_splits_of_parquet_files_are_named(dataset, own):
    (own / "clone").mkdir()
    for split in ("train", "test"):
        dataset.to_parquet(f"clone/{split}-00000-of-00001.parquet")
    check(rows("clone/test"))
    with pytest.raises(BadInput, match="splits train, test: name one"):
        rows("clone")
    with pytest.raises(BadInput, match=r"clone.*dev"):
        rows("clone/dev")


def test_parquet_of_another_program_has_its_audio_beside_a_path(datasets, own):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    data = [(own / f"{number}.flac").read_bytes() for number in range(3)]
    audio = [{"bytes": one, "path": "gone.flac"} for one in data]
    columns = {"path": ["gone.flac"] * 3, "audio": audio, "id": [5, 6, 7]}
    table = arrow.table(columns | {"sentence": ["ONE", None, "THREE"]})
    (own / "clone").mkdir()
    parquet.write_table(table, "clone/train-00000-of-00001.parquet")
    check(rows("clone/train"))


def test_a_dataset_without_audio_is_named_with_its_columns(datasets):
    datasets.Dataset.from_dict({"sentence": ["A"]}).save_to_disk("saved")
    with pytest.raises(BadInput, match=r"no audio .columns sentence"):
        rows("saved")


def test_rows_without_audio_are_counted_and_named(dataset, datasets, caplog):
    holes = [{"audio": None, "sentence": "X", "id": n} for n in (8, 9)]
    more = datasets.Dataset.from_list(holes, features=dataset.features)
    datasets.concatenate_datasets([dataset, more]).save_to_disk("saved")
    check(rows("saved"))
    assert "2 of 5 rows of the dataset have no audio" in caplog.text
    assert "rows 3, 4" in caplog.text


def test_a_corrupt_dataset_is_named(dataset, own):
    dataset.save_to_disk("saved")
    (own / "saved" / "state.json").write_text("{}")
    with pytest.raises(BadInput, match=r"cannot load the dataset .*saved"):
        rows("saved")


def test_a_name_on_the_hub_is_loaded_by_datasets(dataset, datasets, monkeypatch):
    asked = []

    def load(*names, **more):
        asked.append((*names, more))
        return dataset

    monkeypatch.setattr(datasets, "load_dataset", load)
    check(rows("hf:owner/name/clean/test"))
    assert asked == [("owner/name", "clean", {"split": "test"})]


def test_without_the_package_the_extra_is_named(own, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(BadInput, match=r"speechbrain_birq\[large\]"):
        rows("hf:owner/name/test")


@pytest.mark.parametrize("name", ["hf:", "hf:a", "hf:a//b", "hf:a/b/c/d/e"])
def test_what_is_no_name_on_the_hub_is_refused(name):
    with pytest.raises(BadInput, match="no dataset on the hub"):
        hub_name(name)


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_an_audiofolder_is_its_metadata(own, name):
    row = {"file_name": "1.flac", "transcription": "TWO"}
    text = "file_name,transcription\n1.flac,TWO\n"
    (own / name).write_text(json.dumps(row) if "json" in name else text)
    (found,) = rows(str(own))
    assert (found.ID, found.text, found.duration) == ("1", "TWO", 1.0)


def test_metadata_of_another_kind_is_no_table(own):
    (own / "metadata.csv").write_text("0|One\n1|Two\n")
    assert metadata_table(own) is None
    assert len(rows(str(own))) == 3


@pytest.fixture
def parted(own):
    """A folder of two splits, whose root lists both."""
    (own / "hf" / "train").mkdir(parents=True)
    (own / "hf" / "test").mkdir()
    (own / "0.flac").rename("hf/train/a.flac")
    (own / "1.flac").rename("hf/train/b.flac")
    (own / "2.flac").rename("hf/test/b.flac")
    files = {"train/a.flac": "ONE", "./train/b.flac": "TWO", "test/b.flac": "THREE"}
    lines = [f"{name},{text}\n" for name, text in files.items()]
    (own / "hf/metadata.csv").write_text("file_name,text\n" + "".join(lines))
    return own


@pytest.mark.parametrize(
    ("split", "data_folder"),
    [("hf/train", None), ("train", "hf"), ("./hf/train", "."), ("hf/train/", None)],
)
def test_a_split_of_an_audiofolder_is_what_the_root_lists_of_it(
    parted, split, data_folder
):
    found = [(u.ID, u.text) for u in rows(split, data_folder)]
    assert found == [("a", "ONE"), ("b", "TWO")]


def test_metadata_of_several_splits_is_refused_with_the_right_one(parted):
    words = f"lists the splits test, train: give {parted}/hf/train as split"
    with pytest.raises(BadInput, match=words):
        rows("hf")
    assert len(rows("./hf/metadata.csv")) == 3


def test_one_split_or_folders_that_are_none_may_be_listed(parted):
    text = (parted / "hf/metadata.csv").read_text()
    (parted / "hf/metadata.csv").write_text(text.replace("test/b", "gone/b"))
    assert [u.text for u in rows("hf")] == ["ONE", "TWO"]


def test_a_folder_that_the_parent_s_metadata_leaves_out_is_audio(parted):
    (parted / "hf/more").mkdir()
    (parted / "hf/test/b.flac").rename(parted / "hf/more/c.flac")
    assert [(u.ID, u.text) for u in rows("hf/more")] == [("c", "")]


def test_metadata_of_its_own_comes_before_the_parent_s(parted):
    row = {"file_name": "b.flac", "text": "OWN"}
    (parted / "hf/train/metadata.jsonl").write_text(json.dumps(row))
    assert [(u.ID, u.text) for u in rows("hf/train")] == [("b", "OWN")]


@pytest.mark.parametrize("place", ["train", "data/train"])
def test_metadata_in_folders_below_is_refused_with_the_right_split(own, place):
    for folder in ("dev", place):
        (own / "hf" / folder).mkdir(parents=True)
        soundfile.write(own / "hf" / folder / "a.flac", np.full(8000, 0.1), 16000)
        row = {"file_name": "a.flac", "text": "ONE"}
        (own / "hf" / folder / "metadata.jsonl").write_text(json.dumps(row))
    with pytest.raises(BadInput) as caught:
        rows("hf")
    assert f"folders below it have ({', '.join(sorted(['dev', place]))})" in str(
        caught.value
    )
    assert f"give {own}/hf/{place} as split" in str(caught.value)
    assert [u.text for u in rows(f"hf/{place}")] == ["ONE"]


def test_a_parent_s_metadata_whose_paths_are_in_another_column_is_named(parted):
    (parted / "hf/metadata.csv").write_text("file_name,path\ntrain/a.flac,x/a.flac\n")
    with pytest.raises(BadInput, match=r"lists nothing below .*'path'"):
        rows("hf/train")


def test_metadata_is_read_once(parted, monkeypatch):
    read, table = [], Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda p: read.append(p.name) or table(p))
    rows("hf/train")
    assert read == ["metadata.csv"]
