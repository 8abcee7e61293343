"""Files of a dataset on the Hugging Face hub: listed, resumed where cut, verified."""

import errno
import hashlib
import json
import logging
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote, urlsplit

from speechbrain_birq.data.bounded_http import TooSlow, blocks, opened
from speechbrain_birq.errors import BadInput

logger = logging.getLogger(__name__)

T = TypeVar("T")

TRIES = 5  # without a new byte, or with a wrong hash, before a file is given up
FULL = (errno.ENOSPC, errno.EDQUOT)
WAIT = 5.0  # seconds after a first try that brought nothing, then twice, three times
PAGE_BYTES = 2**26  # of a listing; the hub's pages of 1,000 entries have 0.3 MB
PAGES = 10_000


class RemoteFile(NamedTuple):
    """A file as the hub lists it."""

    path: str
    size: int  # bytes
    digest: str  # SHA-256 of a large file (64 digits), git's SHA-1 of another (40)


class HubDataset:
    """A dataset repository at one commit.

    Token and addresses are huggingface_hub's. Its requests are not used, because they
    have no bound on the bytes or the time of an answer; its downloads also start anew
    after a killed run (huggingface_hub 2) and check no hashes.

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
            from huggingface_hub import constants
        except ImportError as error:
            raise BadInput(
                'files come with huggingface_hub: pip install "speechbrain_birq[large]"'
            ) from error
        self.repo = repo
        self.endpoint = (endpoint or constants.ENDPOINT).rstrip("/")
        self._api = f"{self.endpoint}/api/datasets/{repo}"
        self.commit: str = self._ask("", lambda: self._commit(revision))

    def folders(self, folder: str) -> list[str]:
        """List the names of the folders in a folder."""
        tree = self._ask(folder, lambda: list(self._tree(folder)))
        return [Path(entry["path"]).name for entry in tree if _is_dir(entry)]

    def files(self, folder: str) -> dict[str, RemoteFile]:
        """List all files below a folder: path -> file."""

        def listed():
            tree = self._tree(folder, "?recursive=true")
            return [_remote_file(entry) for entry in tree if not _is_dir(entry)]

        return {file.path: file for file in self._ask(folder, listed)}

    def fetch(self, file: RemoteFile, path: Path) -> Path:
        """Download a file; ``path`` exists only once it is complete and verified.

        The download resumes what a cut connection or a killed run has left in
        ``<path>.partial``; a file of the wrong hash is fetched again.

        Raises
        ------
        BadInput
            If the disk is full, or ``TRIES`` tries brought nothing new, less than a
            usable speed, or a wrong hash.
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
                slow = isinstance(problem, TooSlow)
                stalled = 0 if after > before and not slow else stalled + 1
                time.sleep(WAIT * stalled)
            elif _digest(partial, len(file.digest)) == file.digest:
                return partial.replace(path)
            else:
                wrong += 1
                problem = ValueError("what came has the wrong hash")
                partial.unlink()
            logger.warning("%s: %s; trying again", file.path, _short(problem))
        raise BadInput(
            f"gave up {file.path} of {self.repo} after {TRIES} tries "
            f"({_short(problem)}): check the connection and give the same command "
            f"again to resume"
        )

    def _resume(self, file: RemoteFile, partial: Path) -> Exception | None:
        """Fetch what is missing; return what went wrong, if anything did."""
        from huggingface_hub import hf_hub_url

        url = hf_hub_url(
            self.repo,
            file.path,
            repo_type="dataset",
            revision=self.commit,
            endpoint=self.endpoint,
        )
        try:
            with open(partial, "ab") as out:
                if out.tell() < file.size:
                    _download(url, out, file.size)
        except OSError as error:
            if error.errno in FULL:
                raise BadInput(no_space(partial.parent)) from error
            return error
        if _size(partial) < file.size:
            return OSError(f"{_size(partial)} of {file.size} bytes came")
        return None

    def _commit(self, revision):
        info, _ = _json(f"{self._api}/revision/{quote(revision, safe='')}")
        if not re.fullmatch(r"[0-9a-f]{40}", info["sha"]):
            raise ValueError("its commit is no hash")
        return info["sha"]

    def _tree(self, folder: str, query: str = "") -> Iterator[dict[str, Any]]:
        url = f"{self._api}/tree/{self.commit}/{quote(folder)}{query}"
        for _ in range(PAGES):
            entries, following = _json(url)
            yield from entries
            if following is None:
                return
            if urlsplit(following)[:2] != urlsplit(url)[:2]:
                raise ValueError(f"the next page is at {following}")
            url = following
        raise ValueError(f"more than {PAGES} pages")

    def _ask(self, folder: str, question: Callable[[], T]) -> T:
        try:
            return question()
        except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
            raise BadInput(
                f"cannot list {self.repo}/{folder} at {self.endpoint} "
                f"({_short(error)}): check the connection, --revision and --languages"
            ) from error


def _json(url):
    """A JSON answer, and the address of the next page."""
    with opened(url, _headers()) as response:
        data = b"".join(blocks(response, url, PAGE_BYTES))
        return json.loads(data), response.links.get("next", {}).get("url")


def _download(url, out, size):
    """Append what is missing of a file of so many bytes."""
    start = out.tell()
    asked = {"Range": f"bytes={start}-"} if start else {}
    # The hub sends large files from other hosts.
    with opened(url, _headers() | asked, any_host=True) as response:
        if start and response.status_code != 206:  # it sends all of it
            out.truncate(0)
            start = 0
        for block in blocks(response, url, size - start):
            out.write(block)


def _headers():
    from huggingface_hub.utils import build_hf_headers

    return build_hf_headers()


def _remote_file(entry):
    lfs = entry.get("lfs")
    digest = lfs["oid"] if lfs else entry["oid"]
    file = RemoteFile(entry["path"], entry["size"], digest)
    if type(file.size) is not int or file.size < 0:
        raise ValueError(f"{file.path!r} has {file.size!r} bytes")
    if not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", digest):
        raise ValueError(f"{file.path!r} has no hash")
    return file


def no_space(folder: str | Path) -> str:
    """Return the sentence for a disk that is full."""
    return (
        f"no space left on the disk of {folder}: free some and give the same command "
        f"again to resume"
    )


def _is_dir(entry):
    return entry["type"] == "directory"


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
