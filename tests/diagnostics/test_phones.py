"""The phone classifier against an independent one, and phones on the time axis."""

import numpy as np
import pytest
import soundfile
import torch

from speechbrain_birq.cli.main import main
from speechbrain_birq.diagnostics.phones import (
    RIDGE,
    Interval,
    RidgeClassifier,
    accuracy_by_layer,
    phones_of_frames,
    read_phones,
)
from speechbrain_birq.errors import BadInput

PITCH = {"A": 300.0, "B": 1000.0, "C": 3000.0}


def write_split(folder, seed):
    """Two speakers' files of 0.2 s tones: a phone is a pitch, then silence."""
    rng = np.random.default_rng(seed)
    for speaker in (1, 2):
        chapter = folder / str(speaker) / "1"
        chapter.mkdir(parents=True)
        rows = ["utterance\tstart_seconds\tend_seconds\tphone"]
        for number in range(4):
            name = f"{speaker}-1-{number:04d}"
            signal = 1e-3 * rng.standard_normal(16000)
            for index, phone in enumerate(rng.permutation(list(PITCH))):
                start = 0.1 + 0.25 * index
                inside = slice(round(16000 * start), round(16000 * (start + 0.2)))
                time = np.arange(16000)[inside] / 16000
                signal[inside] += 0.1 * np.sin(2 * np.pi * PITCH[phone] * time)
                rows.append(f"{name}\t{start}\t{start + 0.2}\t{phone}")
            rows.append(f"{name}\t0.85\t1.0\tSIL")
            soundfile.write(chapter / f"{name}.flac", signal, 16000)
        (chapter / f"{speaker}-1.phones.tsv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture
def corpus_of_phones(tmp_path):
    for seed, split in enumerate(("pretrain", "test")):
        write_split(tmp_path / "phones" / split, seed)
    return tmp_path / "phones"


def test_the_classifier_is_ridge_regression():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 3, generator=generator)
    y = torch.randint(0, 4, (40,), generator=generator)
    classifier = RidgeClassifier(num_features=3, num_classes=4)
    for rows in (slice(0, 15), slice(15, 40)):
        classifier.add(x[rows], y[rows])
    classifier.fit()

    # Ridge is least squares with the square root of the penalty as further rows.
    ones = np.concatenate([x.double().numpy(), np.ones((40, 1))], 1)
    penalty = RIDGE * np.square(ones).sum(0).mean()
    rows = np.concatenate([ones, np.sqrt(penalty) * np.eye(4)])
    targets = np.concatenate([np.eye(4)[y.numpy()], np.zeros((4, 4))])
    expected = np.linalg.lstsq(rows, targets, rcond=None)[0]
    np.testing.assert_allclose(classifier.weights.numpy(), expected, atol=1e-10)
    assert classifier.predict(x).tolist() == (ones @ expected).argmax(1).tolist()


def test_a_frame_has_the_phone_at_its_middle():
    intervals = [Interval(0.0, 0.03, "a"), Interval(0.03, 0.06, "b")]
    # Stacks of four frames of 10 ms: centered on 0, 10, 20, 30 ms, and so on.
    assert phones_of_frames(intervals, 3, frame_ms=40) == ["a", "b", None]
    # Stacks of two: 5, 25, 45, 65 ms.
    assert phones_of_frames(intervals, 4, frame_ms=20) == ["a", "a", "b", None]


def test_tones_of_three_pitches_are_told_apart_by_every_layer(
    run_folder, corpus_of_phones
):
    splits = (corpus_of_phones / "pretrain", corpus_of_phones / "test")
    accuracy = accuracy_by_layer(run_folder, *splits)
    assert accuracy.frames > 0.9
    assert len(accuracy.layers) == 3 and min(accuracy.layers) > 0.8
    assert accuracy.most_frequent == pytest.approx(1 / 3, abs=0.02)


def test_the_command_prints_a_line_a_layer(run_folder, corpus_of_phones, capsys):
    main(["phones", str(run_folder), str(corpus_of_phones)])
    lines = capsys.readouterr().out.splitlines()
    heads = [line[:20].strip() for line in lines]
    assert heads[0] == "most frequent phone" and heads[1] == "stacked frames"
    assert heads[2:] == ["input projection", "layer 1", "layer 2"]
    assert all(0 <= float(line[20:].rstrip(" %")) <= 100 for line in lines)


def test_a_folder_without_phones_is_told(tmp_path):
    with pytest.raises(BadInput, match=r"no phones in .*birq minispeech"):
        read_phones(tmp_path)


@pytest.mark.faults
def test_chapters_that_are_links_are_read_and_hidden_files_are_not(
    corpus_of_phones, tmp_path
):
    found = read_phones(corpus_of_phones)
    table = next(corpus_of_phones.rglob("*.phones.tsv"))
    table.with_name(f"._{table.name}").write_bytes(b"\0\5\x16\7")
    table.parent.rename(tmp_path / "chapter")
    table.parent.symlink_to(tmp_path / "chapter")
    assert read_phones(corpus_of_phones) == found
