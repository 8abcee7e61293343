"""Files that lie about sizes or never end: one sentence, soon, small."""

import gzip
import io
import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from bounds import bounded
from local_hub import tar_gz

from speechbrain_birq.checkpoints.files import seal
from speechbrain_birq.checkpoints.recovery import read_checkpoint
from speechbrain_birq.checkpoints.run_folder import best_checkpoint
from speechbrain_birq.data.corpora.yodas.tar_audio import CorruptArchive, read_members
from speechbrain_birq.data.shards.reader import find_shards
from speechbrain_birq.errors import BadInput
from speechbrain_birq.inference import SpeechEncoder

pytestmark = pytest.mark.faults

OLD = Path(__file__).parents[1] / "checkpoints" / "old_layout"


def header(name, kind, size):
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def sparse(name, size):
    """A header whose member has 0 bytes once its holes are filled, by its own words."""
    data = bytearray(header(name, tarfile.GNUTYPE_SPARSE, size))
    data[483:495] = b"%011o\0" % 0
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data)
    return bytes(data)


LONG = tarfile.GNUTYPE_LONGNAME
ARCHIVES = {
    "a member of 2^40 bytes": header("a.wav", tarfile.REGTYPE, 2**40),
    "another of 2^40 bytes": header("b.wav", tarfile.REGTYPE, 2**40),
    "a sparse member of 2^40 bytes": sparse("b.wav", 2**40),
    "a long name of 2^40 bytes": header("a", LONG, 2**40),
    "a long name that is large": header("a", LONG, 2**29) + bytes(2**22),
    "a pax header of 2^40 bytes": header("a", tarfile.XHDTYPE, 2**40),
    "5,000 long names": (header("a", LONG, 1) + bytes(512)) * 5000,
}


@pytest.mark.parametrize("kind", ARCHIVES)
def test_an_archive_with_a_lie_in_its_headers(tmp_path, kind):
    path = tmp_path / "archive.tar.gz"
    good = gzip.decompress(tar_gz([("first.wav", b"audio")]))[:1024]
    with gzip.open(path, "wb") as file:
        file.write(good + ARCHIVES[kind] + os.urandom(2**20))
    found = []
    with bounded(), pytest.raises(CorruptArchive, match=r"bytes|nested"):
        found += (name for name, _ in read_members(path, {"first", "a"}))


def endless_checkpoint(folder, name):
    checkpoint = folder / "save" / "CKPT+1"
    checkpoint.mkdir(parents=True)
    for written in ("CKPT.yaml", "model.ckpt"):
        (checkpoint / written).write_text("unixtime: 1\nend-of-epoch: true\n")
    seal(checkpoint)
    (checkpoint / name).unlink()
    return checkpoint / name


@pytest.mark.parametrize("kind", ["/dev/zero", "a FIFO"])
@pytest.mark.parametrize("name", ["CKPT.yaml", "model.ckpt", "SHA256SUMS"])
def test_a_checkpoint_without_an_end(tmp_path, name, kind):
    path = endless_checkpoint(tmp_path, name)
    if kind == "a FIFO":
        os.mkfifo(path)
    else:
        path.symlink_to(kind)
    with bounded(), pytest.raises(BadInput, match="no checkpoint in") as caught:
        best_checkpoint(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_model_file_of_4_mb_that_unpacks_to_gigabytes(tmp_path):
    run = shutil.copytree(OLD / "pretrained", tmp_path / "run")
    path = best_checkpoint(run) / "model.ckpt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(9):
            archive.writestr(f"archive/data/{number}", bytes(2**26), compresslevel=1)
    seal(path.parent)
    assert path.stat().st_size < 2**22
    with bounded(), pytest.raises(BadInput, match="unpack to 603") as caught:
        SpeechEncoder(run)
    assert str(path) in str(caught.value)


def test_a_description_that_is_an_alias_bomb(tmp_path):
    text = "a: &a [x, x, x, x, x, x, x, x, x]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True):
        text += f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n"
    (tmp_path / "CKPT.yaml").write_text(text + "unixtime: *i\n")
    with bounded(), pytest.raises(BadInput, match=r"CKPT\.yaml is corrupt"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("kind", ["/dev/zero", "a FIFO", "2^40 bytes"])
def test_a_column_of_shards_without_an_end(shards, kind):
    path = shards / "train" / "samples.npy"
    path.unlink()
    if kind == "a FIFO":
        os.mkfifo(path)
    elif kind == "/dev/zero":
        path.symlink_to(kind)
    else:
        path.touch()
        os.truncate(path, 2**40)
    with bounded(), pytest.raises(BadInput, match=r"samples\.npy"):
        find_shards(shards, "train")


def test_a_column_whose_header_lies_about_its_length(shards):
    path = shards / "train" / "samples.npy"
    data = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        data, {"descr": "<u4", "fortran_order": False, "shape": (2**40,)}
    )
    path.write_bytes(data.getvalue() + bytes(1000))
    with bounded(), pytest.raises(BadInput, match=r"samples\.npy"):
        find_shards(shards, "train")
