"""A made-up YODAS on a hub, and its preparation."""

import shutil
from types import SimpleNamespace

import pytest
from local_hub import LocalHub, made_up_yodas
from small_yodas import SPLITS, chosen, shard_files, written

from speechbrain_birq.data import bounded_http
from speechbrain_birq.data.corpora.yodas import hub as hub_module
from speechbrain_birq.data.corpora.yodas.prepare import prepare_yodas
from speechbrain_birq.data.corpora.yodas.utterance_list import UtteranceList


@pytest.fixture(scope="session")
def yodas_files():
    return made_up_yodas()


@pytest.fixture
def hub(monkeypatch, yodas_files):
    monkeypatch.setattr(hub_module, "WAIT", 0)
    with LocalHub(yodas_files).running() as hub:
        yield hub
    bounded_http._session.cache_clear()


@pytest.fixture
def prepare(hub, tmp_path):
    """prepare(**options) -> counts; into tmp_path / "shards"."""

    def run(folder=tmp_path / "shards", **options):
        return prepare_yodas(folder, endpoint=hub.endpoint, **(SPLITS | options))

    return run


@pytest.fixture(scope="session")
def _complete():
    return {}


@pytest.fixture
def complete(_complete, prepare, tmp_path):
    """A folder that was prepared without a fault; made once."""
    if not _complete:
        folder = tmp_path / "shards"
        _complete["counts"] = prepare(folder)
        _complete["files"] = shard_files(folder)
        _complete["splits"] = {s: written(folder, s) for s in ("dev", "train")}
        _complete["chosen"] = {s: chosen(folder, s) for s in ("dev", "train")}
        _complete["drawn"] = [
            {"archive": archive, "split": split}
            for archive, splits in UtteranceList(folder).utterances()
            for split in set(splits.values())
        ]
        _complete["left"] = sorted(path.name for path in folder.iterdir())
        shutil.rmtree(folder)
    return SimpleNamespace(**_complete)
