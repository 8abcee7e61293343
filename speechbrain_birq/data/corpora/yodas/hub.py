"""Files of a dataset on the Hugging Face hub: listed, resumed where cut, verified."""

import errno
import hashlib
import logging
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from speechbrain_birq.errors import BadInput

logger = logging.getLogger(__name__)

TRIES = 5  # without a new byte, or with a wrong hash, before a file is given up
FULL = (errno.ENOSPC, errno.EDQUOT)
WAIT = 5.0  # seconds after a first try that brought nothing, then twice, three times


class RemoteFile(NamedTuple):
    """A file as the hub lists it."""

    path: str
    size: int  # bytes
    digest: str  # SHA-256 of a large file (64 digits), git's SHA-1 of another (40)


class HubDataset:
    """A dataset repository at one commit.

    Arguments
    ---------
    repo : str
        ``owner/name``.
    revision : str
        Branch, tag or commit; ``self.commit`` is the commit that it means today.
    endpoint : str, optional
        Another address than huggingface_hub's.

    Raises
    ------
    BadInput
        If huggingface_hub is not installed, or the hub cannot be reached or lacks the
        dataset or the revision.
    """

    def __init__(self, repo: str, revision: str = "main", endpoint: str | None = None):
        try:
            from huggingface_hub import HfApi
            from huggingface_hub.utils import disable_progress_bars
        except ImportError as error:
            raise BadInput(
                'files come with huggingface_hub: pip install "speechbrain_birq[large]"'
            ) from error
        disable_progress_bars()  # the preparation shows one of hours
        self.repo, self.endpoint = repo, endpoint
        self._api = HfApi(endpoint=endpoint)
        self.commit = self._ask(self._api.dataset_info, revision=revision).sha

    def folders(self, folder: str) -> list[str]:
        """List the names of the folders in a folder."""
        return [Path(entry.path).name for entry in self._tree(folder) if _is_dir(entry)]

    def files(self, folder: str) -> dict[str, RemoteFile]:
        """List all files below a folder: path -> file."""
        tree = self._tree(folder, recursive=True)
        return {
            entry.path: RemoteFile(
                entry.path,
                entry.size,
                entry.lfs.sha256 if entry.lfs else entry.blob_id,
            )
            for entry in tree
            if not _is_dir(entry)
        }

    def fetch(self, file: RemoteFile, path: Path) -> Path:
        """Download a file; ``path`` exists only once it is complete and verified.

        The download resumes what a cut connection or a killed run has left in
        ``<path>.partial``; a file of the wrong hash is fetched again.

        Raises
        ------
        BadInput
            If the disk is full, or ``TRIES`` tries brought nothing new or a wrong hash.
        """
        if path.exists():
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.partial")
        stalled = wrong = 0
        while max(stalled, wrong) < TRIES:
            before = _size(partial)
            problem = self._resume(file, partial)
            after = _size(partial)
            if after < file.size:
                stalled = 0 if after > before else stalled + 1
                time.sleep(WAIT * stalled)
            elif _digest(partial, len(file.digest)) == file.digest:
                return partial.replace(path)
            else:
                wrong += 1
                problem = "what came has the wrong hash"
                partial.unlink()
            logger.warning("%s: %s; trying again", file.path, problem)
        raise BadInput(
            f"gave up {file.path} of {self.repo} after {TRIES} tries ({problem}): "
            f"check the connection and give the same command again to resume"
        )

    def _resume(self, file, partial):
        """Fetch what is missing; return what went wrong, if anything did."""
        from huggingface_hub import hf_hub_url
        from huggingface_hub.file_download import http_get
        from huggingface_hub.utils import build_hf_headers

        # Not hf_hub_download: it starts a file anew after a killed run
        # (huggingface_hub 2), and does not check hashes.
        url = hf_hub_url(
            self.repo,
            file.path,
            repo_type="dataset",
            revision=self.commit,
            endpoint=self.endpoint,
        )
        headers = build_hf_headers() | {"Accept-Encoding": "identity"}
        try:
            with open(partial, "ab") as out:
                http_get(
                    url,
                    out,
                    resume_size=out.tell(),
                    headers=headers,
                    expected_size=file.size,
                )
        except Exception as error:  # of httpx, requests or the hub, by version
            if getattr(error, "errno", None) in FULL:
                raise BadInput(no_space(partial.parent)) from error
            return _short(error)
        return None

    def _tree(self, folder, recursive=False):
        return self._ask(
            lambda repo, **options: list(self._api.list_repo_tree(repo, **options)),
            path_in_repo=folder,
            recursive=recursive,
            revision=self.commit,
            repo_type="dataset",
        )

    def _ask(self, question: Callable[..., Any], **options: Any) -> Any:
        try:
            return question(self.repo, **options)
        except Exception as error:  # as above
            where = options.get("path_in_repo", "")
            raise BadInput(
                f"cannot list {self.repo}/{where} at {self._api.endpoint} "
                f"({_short(error)}): check the connection, --revision and --languages"
            ) from error


def no_space(folder: str | Path) -> str:
    """Return the sentence for a disk that is full."""
    return (
        f"no space left on the disk of {folder}: free some and give the same command "
        f"again to resume"
    )


def _is_dir(entry):
    return not hasattr(entry, "size")  # a RepoFolder


def _size(path):
    return path.stat().st_size if path.exists() else 0


def _digest(path, digits):
    digest = hashlib.sha256()
    if digits == 40:  # as git names a file's content
        digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _short(error):
    return re.sub(r"\s+", " ", f"{error}" or type(error).__name__)[:200]
