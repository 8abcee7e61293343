"""AMI: meetings to segments, and everything that can be missing."""

import collections
import http.server
import itertools
import logging
import os
import re
import shutil
import threading
import zipfile
from functools import partial

import numpy as np
import pytest
import soundfile
from ami_corpus import MEETINGS, RATE, ROOT, signal, write_ami

from speechbrain_birq.checkpoints.run_lock import locked
from speechbrain_birq.data.corpora.ami import files as ami_files
from speechbrain_birq.data.corpora.ami import prepare as ami
from speechbrain_birq.data.corpora.ami import segments as ami_segments
from speechbrain_birq.data.corpora.librispeech import prepare_librispeech
from speechbrain_birq.data.manifest import read_manifest
from speechbrain_birq.data.shards.convert import shard_corpus
from speechbrain_birq.decoding.sentences import read_sentences
from speechbrain_birq.errors import BadInput

lhotse_ami = pytest.importorskip("lhotse.recipes.ami")


@pytest.fixture(autouse=True)
def few_meetings(monkeypatch):
    """Real partitions are 170 meetings."""
    monkeypatch.setitem(lhotse_ami.PARTITIONS, "full-corpus-asr", MEETINGS)


@pytest.fixture
def raw(tmp_path):
    folder = write_ami(tmp_path / "ami")
    shutil.rmtree(folder / "manual")
    return folder


def cut(raw, tmp_path, **options):
    folder = tmp_path / "cut"
    return folder, ami.prepare_ami(raw, folder, **options)


def rows(folder, split):
    prepare_librispeech(folder, [split], folder / "manifests")
    return read_manifest(folder / "manifests" / f"{split}.csv")


def test_the_partition_is_the_standard_one_and_real(monkeypatch):
    monkeypatch.undo()
    parts = lhotse_ami.PARTITIONS[ami.PARTITION]
    assert [len(parts[part]) for part in ami.PARTS] == [136, 18, 16]
    assert all(MEETINGS[part][0] in parts[part] for part in ami.PARTS)
    # recipes/AMI/README.md: 134 meetings of sdm are for training.
    assert [m in parts["train"] for m in ami_files.WITHOUT_ARRAY] == [True, True]


@pytest.mark.parametrize("mic", ["ihm", "sdm"])
def test_segments_are_named_timed_and_written_as_annotated(raw, tmp_path, mic):
    folder, _ = cut(raw, tmp_path)
    found = {row.ID: row for row in rows(folder, f"{mic}-train")}
    texts = {name: row.text for name, row in found.items()}
    assert texts == {
        f"MEE010-ES2002a-{mic}0000": "HELLO WORLD",
        f"FEE010-ES2002a-{mic}0001": "MM-HMM IT'S",
        f"FEE010-ES2002a-{mic}0003": "ONE TWO",
    }
    durations = {name: round(row.duration, 3) for name, row in found.items()}
    assert durations[f"FEE010-ES2002a-{mic}0003"] == 1.2
    assert sorted(durations.values()) == [1.2, 1.3, 1.3]
    assert {row.speaker for row in found.values()} == {"MEE010", "FEE010"}


@pytest.mark.parametrize(
    ("mic", "channels"), [("ihm", {"MEE010": 0, "FEE010": 1}), ("sdm", None)]
)
def test_audio_is_the_right_piece_of_the_right_microphone(raw, tmp_path, mic, channels):
    folder, _ = cut(raw, tmp_path)
    starts = {"HELLO WORLD": 0.3, "MM-HMM IT'S": 1.1, "ONE TWO": 3.7}
    ends = {"HELLO WORLD": 1.6, "MM-HMM IT'S": 2.4, "ONE TWO": 4.9}
    for row in rows(folder, f"{mic}-train"):
        samples, rate = soundfile.read(row.wav, dtype="int16")
        assert rate == RATE
        whole = signal(channels[row.speaker] if channels else 2)
        piece = whole[round(starts[row.text] * RATE) : round(ends[row.text] * RATE)]
        assert np.array_equal(samples, piece), row.ID


def test_segments_are_split_at_full_stops_before_a_pause_and_long_ones_at_commas(raw):
    """As recipes/AMI/README.md says; sentences that follow each other are joined."""
    folder = unpacked(raw)
    short = [("Mm-hmm", 0.1), (".", 0), ("", 0.1), ("it's", 0.1), (".", 0), ("so", 0.1)]
    parts = [[(word, 0.01)] * 12 + [(",", 0)] for word in ("one", "two", "three")]
    long = [(".", 0), ("", 0.1), *itertools.chain(*parts)]
    words, time = [], 0.3
    for text, length in [*short, *long]:
        if text:
            words.append(f'<w starttime="{time}" endtime="{time + length}">{text}</w>')
        time += length
    path = folder / "words" / "ES2011a.A.words.xml"
    path.write_text(f"{ROOT}{''.join(words)}</nite:root>")
    found = ami._segments(lhotse_ami, folder)["ES2011a"]
    texts = [s.text for s in found if s.channel == 0]
    both = " ".join(["ONE"] * 12 + ["TWO"] * 12)
    assert texts == ["MM-HMM", "IT'S SO", both, " ".join(["THREE"] * 12)]


def test_what_is_left_out_is_counted(raw, tmp_path):
    _, counts = cut(raw, tmp_path)
    assert set(counts) == {f"{m}-{p}" for m in ami.MICS for p in ami.PARTS}
    for found in counts.values():
        assert found[0] == 3 and found[2:] == (1, 1)
        assert found.seconds == pytest.approx(1.3 + 1.3 + 1.2)


def test_segments_after_the_recording_are_named(raw, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        cut(raw, tmp_path, mics=("ihm",), parts=("dev",))
    told = [message for message in caplog.messages if "after the recording" in message]
    assert told == [
        "ES2011a, ihm: left out 1 segments that end after the recording: "
        "MEE011-ES2011a-ihm0004"
    ]


def test_the_texts_of_a_language_model_are_those_of_training(raw, tmp_path):
    folder, _ = cut(raw, tmp_path, mics=("ihm",), parts=("train",))
    found = read_sentences([folder / "ihm-train"])
    assert sorted(found) == ["HELLO WORLD", "MM-HMM IT'S", "ONE TWO"]


def test_a_folder_of_annotations_serves_as_well_as_the_archive(raw, tmp_path):
    first, _ = cut(raw, tmp_path)
    folder = raw / "ami_public_manual_1.6.2"
    shutil.unpack_archive(f"{folder}.zip", folder)
    (raw / "ami_public_manual_1.6.2.zip").unlink()
    ami.prepare_ami(raw, tmp_path / "again")
    assert names(first) == names(tmp_path / "again")


def test_all_folders_of_the_output_are_splits(raw, tmp_path):
    """`birq shard` takes every one that is not hidden."""
    left = tmp_path / "cut" / ".ami_public_manual_1.6.2"  # by a call that was killed
    (left / "words").mkdir(parents=True)
    (left / "words" / "ES2011a.B.words.xml").write_text("<w")
    folder, counts = cut(raw, tmp_path)
    assert {path.name for path in folder.iterdir()} == {*counts, ".lock"}
    summaries = shard_corpus(folder, tmp_path / "shards")
    assert {split: found.utterances for split, found in summaries.items()} == {
        split: found.segments for split, found in counts.items()
    }


def names(folder):
    files = (path.relative_to(folder) for path in folder.rglob("*.flac"))
    return {str(path) for path in files}


def test_a_killed_preparation_goes_on(raw, tmp_path, monkeypatch):
    calls, whole = [], ami_segments._cut

    def killed(*arguments):
        calls.append(arguments)
        if len(calls) == 8:  # in the second meeting
            raise KeyboardInterrupt
        return whole(*arguments)

    monkeypatch.setattr(ami_segments, "_cut", killed)
    with pytest.raises(KeyboardInterrupt):
        cut(raw, tmp_path)
    done = tmp_path / "cut" / "ihm-train" / "ES2002a"
    assert done.is_dir() and not (tmp_path / "cut" / "ihm-dev" / "ES2011a").exists()
    before = done.stat().st_mtime_ns
    monkeypatch.setattr(ami_segments, "_cut", whole)
    folder, counts = cut(raw, tmp_path)
    assert done.stat().st_mtime_ns == before
    assert counts["ihm-train"].segments == 0 and counts["ihm-dev"].segments == 3
    assert len(names(folder)) == 2 * 3 * 3
    assert [path.name for path in folder.rglob(".*")] == [".lock"]


def headset(raw, meeting="ES2011a", number=0):
    return raw / "wav_db" / meeting / "audio" / f"{meeting}.Headset-{number}.wav"


def lose_audio(raw):
    shutil.rmtree(raw / "wav_db" / "ES2011a")


def break_off_audio(raw):
    path = headset(raw)
    path.write_bytes(path.read_bytes()[:5000])


def empty_audio(raw):
    headset(raw).write_bytes(b"")


def lose_a_headset(raw):
    headset(raw, number=1).unlink()


def lose_annotations(raw):
    (raw / "ami_public_manual_1.6.2.zip").unlink()


def take_another_version(raw):
    path = raw / "ami_public_manual_1.6.2.zip"
    path.rename(raw / "ami_public_manual_1.6.1.zip")


def damage_annotations(raw):
    (raw / "ami_public_manual_1.6.2.zip").write_bytes(b"PK")


def unpacked(raw):
    folder = raw / "ami_public_manual_1.6.2"
    shutil.unpack_archive(f"{folder}.zip", folder)
    return folder


def lose_words(raw):
    (unpacked(raw) / "words" / "ES2011a.B.words.xml").unlink()


def lose_a_meeting(raw):
    for path in (unpacked(raw) / "segments").glob("ES2004a*"):
        path.unlink()


def lose_the_list(raw):
    (unpacked(raw) / "corpusResources" / "meetings.xml").unlink()


def damage_the_list(raw):
    (unpacked(raw) / "corpusResources" / "meetings.xml").write_text("<meet")


def lose_speakers(raw):
    path = unpacked(raw) / "corpusResources" / "meetings.xml"
    path.write_text(re.sub("<speaker[^>]*>", "", path.read_text(), count=2))


def damage_words(raw):
    (unpacked(raw) / "words" / "ES2011a.B.words.xml").write_text("<w")


def empty_a_word(raw):
    path = unpacked(raw) / "words" / "ES2011a.B.words.xml"
    path.write_text(path.read_text().replace(">one<", "><"))


def damage_compressed_annotations(raw):
    path = raw / "ami_public_manual_1.6.2.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("words/a.xml", "".join(map(str, range(2000))))
    data = path.read_bytes()
    path.write_bytes(data[:200] + b"\xff" * 60 + data[260:])


def lose_segments(raw):
    shutil.rmtree(unpacked(raw) / "segments")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (lose_audio, "of 1 of 3 meetings, .* ES2011a: .* --without ES2011a"),
        (break_off_audio, "ES2011a.Headset-0.wav is cut off .*5000 of 192044 bytes"),
        (empty_audio, "is cut off or no WAV file"),
        (lose_a_headset, "ES2011a has no Headset-1"),
        (lose_annotations, "no annotations ami_public_manual_1.6.2.zip in"),
        (take_another_version, "1.6.1.zip, another version.*: download http"),
        (damage_annotations, "is corrupt .*: download http"),
        (lose_words, "the annotation .*ES2011a.B.words.xml is missing"),
        (lose_a_meeting, "no annotation of the meeting ES2004a"),
        (lose_the_list, "no .*corpusResources/meetings.xml: unpack"),
        (damage_the_list, "meetings.xml is corrupt"),
        (lose_speakers, "meeting ES2002a in .*, of a speaker whom meetings.xml lists:"),
        (damage_words, "is corrupt"),
        (empty_a_word, r"is corrupt \(a word has no text\): unpack"),
        (damage_compressed_annotations, "is corrupt .*: download http"),
        (lose_segments, "no folder .*segments: unpack"),
    ],
)
def test_what_is_missing_is_told_before_anything_is_cut(raw, tmp_path, fault, words):
    fault(raw)
    with pytest.raises(BadInput, match=words) as caught:
        cut(raw, tmp_path)
    assert "\n" not in str(caught.value)
    assert not names(tmp_path / "cut")


@pytest.mark.faults
def test_meetings_that_are_links_are_read_and_hidden_files_are_not(raw, tmp_path):
    """macOS leaves them beside audio, segments and words."""
    folder = unpacked(raw)
    for path in [*raw.rglob("*.wav"), *folder.rglob("*.xml")]:
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7")
    (folder / "words" / ".DS_Store").touch()
    (raw / "wav_db" / "ES2011a").rename(tmp_path / "ES2011a")
    (raw / "wav_db" / "ES2011a").symlink_to(tmp_path / "ES2011a")
    _, counts = cut(raw, tmp_path)
    assert all(found.segments == 3 for found in counts.values())


def test_a_meeting_can_be_left_out(raw, tmp_path):
    lose_audio(raw)
    folder, counts = cut(raw, tmp_path, without=("ES2011a",))
    assert counts["ihm-dev"].segments == 0 and counts["ihm-test"].segments == 3
    with pytest.raises(BadInput, match="ES9999z: AMI has no such meeting"):
        ami.prepare_ami(raw, folder, without=("ES9999z",))


@pytest.fixture
def gaps(raw, monkeypatch):
    """The corpus's own gaps, where the made-up meetings are."""
    monkeypatch.setattr(ami_files, "WITHOUT_ARRAY", ("ES2002a", "ES2011a"))
    array(raw, "ES2002a").unlink()
    array(raw, "ES2011a").unlink()


def array(raw, meeting):
    return raw / "wav_db" / meeting / "audio" / f"{meeting}.Array1-01.wav"


def test_a_meeting_that_ami_has_no_array_of_is_left_out_of_sdm_alone(
    raw, gaps, tmp_path, caplog
):
    with caplog.at_level(logging.WARNING):
        folder, counts = cut(raw, tmp_path)
    found = {split: count.segments for split, count in counts.items()}
    ihm = {f"ihm-{part}": 3 for part in ami.PARTS}
    assert found == ihm | {"sdm-train": 0, "sdm-dev": 0, "sdm-test": 3}
    assert not (folder / "sdm-train").exists()
    told = [message for message in caplog.messages if "Array1-01" in message]
    assert told == [
        "sdm: left out ES2002a and ES2011a, because AMI has no Array1-01.wav of them"
    ]


def test_a_gap_that_the_user_has_filled_is_cut(raw, gaps, tmp_path, caplog):
    shutil.copy(array(raw, "ES2004a"), array(raw, "ES2002a"))
    with caplog.at_level(logging.WARNING):
        _, counts = cut(raw, tmp_path, mics=("sdm",))
    assert counts["sdm-train"].segments == 3 and counts["sdm-dev"].segments == 0
    assert "left out ES2011a, because" in caplog.text


def test_another_meeting_without_its_array_is_refused(raw, gaps, tmp_path):
    array(raw, "ES2004a").unlink()
    with pytest.raises(BadInput, match=r"Array1-01.wav of 1 of 3 .* ES2004a: add"):
        cut(raw, tmp_path)


@pytest.mark.parametrize("fault", [lose_audio, lose_a_headset])
def test_what_was_downloaded_is_not_to_be_downloaded_again(
    raw, tmp_path, monkeypatch, fault
):
    monkeypatch.setattr(lhotse_ami, "download_ami", lambda *_, **__: None)
    fault(raw)
    with pytest.raises(BadInput, match=r": leave it out with --without ES2011a$"):
        cut(raw, tmp_path, download=True)
    with pytest.raises(BadInput, match="add --download, or leave it out with --with"):
        cut(raw, tmp_path)


def test_a_disk_that_is_too_small_is_told(raw, tmp_path, monkeypatch):
    Usage = collections.namedtuple("Usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1, 1, 1000))
    with pytest.raises(BadInput, match=r"0\.0 GB free: .*--output_folder"):
        cut(raw, tmp_path)


def test_meetings_that_are_not_cut_are_refused_by_the_training(raw, tmp_path):
    with pytest.raises(BadInput, match=r"not yet cut .*prepare.py"):
        ami.find_ami(raw, ["ihm-train+sdm-train"], tmp_path)


def test_training_finds_both_microphones(raw, tmp_path):
    folder, _ = cut(raw, tmp_path)
    (path,) = ami.find_ami(folder, ["ihm-train+sdm-train"], tmp_path).values()
    found = read_manifest(path)
    assert len(found) == len({row.ID for row in found}) == 6


def test_what_is_missing_is_downloaded(raw, gaps, tmp_path, monkeypatch):
    """From a server on this machine, by lhotse; as AMI's, it lacks two files of sdm."""
    web = tmp_path / "web"
    shutil.copytree(raw / "wav_db", web / "AMICorpusMirror" / "amicorpus")
    annotations = web / "AMICorpusAnnotations"
    annotations.mkdir()
    shutil.copy(raw / "ami_public_manual_1.6.2.zip", annotations)
    for folder in (web / "AMICorpusMirror" / "amicorpus").iterdir():
        for number in (2, 3):  # every meeting has four
            shutil.copy(
                folder / "audio" / f"{folder.name}.Headset-1.wav",
                folder / "audio" / f"{folder.name}.Headset-{number}.wav",
            )
    monkeypatch.setattr(lhotse_ami, "MEETINGS", MEETINGS)
    handler = partial(Quiet, directory=web)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        monkeypatch.setattr(
            lhotse_ami, "download_ami", partial(lhotse_ami.download_ami, url=url)
        )
        new = tmp_path / "new"
        counts = ami.prepare_ami(new, tmp_path / "cut", download=True)
        server.shutdown()
    without = {split for split, found in counts.items() if not found.segments}
    assert without == {"sdm-train", "sdm-dev"}
    with pytest.raises(BadInput, match="cannot download AMI"):
        ami.prepare_ami(tmp_path / "newer", tmp_path / "cut", download=True)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.mark.faults
def test_a_folder_that_another_process_cuts_into_is_refused(raw, tmp_path):
    refused = pytest.raises(BadInput, match=f"process {os.getpid()} on")
    with locked(tmp_path / "cut"), refused as told:
        cut(raw, tmp_path)
    assert str(tmp_path / "cut") in str(told.value)
    assert [path.name for path in (tmp_path / "cut").iterdir()] == [".lock"]


@pytest.mark.faults
def test_a_folder_that_another_process_downloads_into_is_refused(raw, tmp_path):
    with locked(raw), pytest.raises(BadInput, match=f"process {os.getpid()} on"):
        cut(raw, tmp_path, download=True)
