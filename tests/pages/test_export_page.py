"""The page of exports: its upload is what the installed command `hf` understands."""

import re
import shlex
from pathlib import Path

import huggingface_hub
import pytest

PAGE = Path(__file__).parents[2] / "docs/export.md"


def command(name):
    """Words of the one command of the page that begins with this name."""
    text = PAGE.read_text(encoding="utf-8")
    (found,) = re.findall(rf"^{name} .*", text, re.MULTILINE)
    return shlex.split(found)


@pytest.fixture
def hub(monkeypatch):
    """Calls of the hub's interface, which do nothing else."""
    calls = []

    def record(name):
        def called(self, **given):
            calls.append((name, given))
            return huggingface_hub.RepoUrl("https://huggingface.co/USER/NAME")

        monkeypatch.setattr(huggingface_hub.HfApi, name, called)

    record("create_repo")
    record("upload_folder")
    return calls


def test_the_upload_is_a_model_with_the_files_at_its_root(hub, tmp_path, monkeypatch):
    from huggingface_hub.cli.hf import app

    hf, *words = command("hf upload")
    monkeypatch.chdir(tmp_path)
    Path("exported").mkdir()
    app(words, standalone_mode=False)
    (create, made), (upload, given) = hub
    assert (hf, create, upload) == ("hf", "create_repo", "upload_folder")
    assert given["repo_id"] == made["repo_id"] == "USER/NAME"
    assert given["repo_type"] == made["repo_type"] == "model"
    assert (given["folder_path"], given["path_in_repo"]) == ("exported", ".")


def test_the_login_is_a_command_of_hf():
    from huggingface_hub.cli.hf import app

    assert "`hf auth login`" in PAGE.read_text(encoding="utf-8")
    assert app(["auth", "login", "--help"], standalone_mode=False) in (0, None)
