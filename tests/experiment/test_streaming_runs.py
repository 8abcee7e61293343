"""Runs for streaming: global statistics of the features, chunks."""

import json

import pytest
import torch
from small_runs import (
    assert_equal,
    finetune,
    manifest,
    pretrain,
    weights,
)

from speechbrain_birq.data.pipeline import AudioReader
from speechbrain_birq.inference import StreamingRecogniser
from speechbrain_birq.models.encoders.chunking import make_chunk
from speechbrain_birq.models.encoders.encoder import SpeechBrainEncoder
from speechbrain_birq.models.frontend import FrontEnd

STREAMING = dict(normalize="global", normalize_seconds=3, chunk_prob=1)
STREAMING |= dict(chunk_min=2, chunk_max=4, left_chunks_min=1, left_chunks_max=2)


CHUNKS = {k: v for k, v in STREAMING.items() if not k.startswith("normalize")}


def statistics(folder):
    prefix = "frontend.statistics."
    return {k: v for k, v in weights(folder).items() if k.startswith(prefix)}


@pytest.fixture
def chunks_seen(monkeypatch):
    """(training, num_layers, chunk) of every call of an encoder."""
    calls, forward = [], SpeechBrainEncoder.forward

    def spied(self, frames, lengths, num_layers=None, chunk=None):
        calls.append((self.training, num_layers, chunk))
        return forward(self, frames, lengths, num_layers, chunk)

    monkeypatch.setattr(SpeechBrainEncoder, "forward", spied)
    return calls


@pytest.fixture
def no_estimate(monkeypatch):
    """no_estimate(): from now on, estimating statistics is an error."""

    def forbid():
        monkeypatch.setattr(FrontEnd, "estimate", None)

    return forbid


def test_a_streaming_recogniser_from_pretraining_to_text(
    _corpus_template, tmp_path, chunks_seen, no_estimate
):
    first, second = tmp_path / "pretrained", tmp_path / "ctc"
    pretrain(_corpus_template, first, **STREAMING)
    masked = [chunk for train, layers, chunk in chunks_seen if train and layers is None]
    assert len(masked) == 3
    assert {chunk.chunk_size for chunk in masked} <= {2, 3, 4}
    assert not any(chunk for train, layers, chunk in chunks_seen if layers or not train)

    no_estimate()
    chunks_seen.clear()
    more = CHUNKS | dict(test_chunk_size=4, test_left_chunks=1)
    rates = finetune(_corpus_template, second, pretrained=first, **more)
    assert all(chunk for train, _, chunk in chunks_seen if train)
    evaluated = [chunk for train, _, chunk in chunks_seen if not train]
    # Three batches each: validation, the test split whole, the test split in chunks.
    assert evaluated == [None] * 6 + [make_chunk(4, 1)] * 3
    assert_equal(statistics(first), statistics(second))
    assert statistics(first)["frontend.statistics.num_frames"] >= 300

    assert rates.keys() == {"test", "test@chunk4"}
    results = json.loads((second / "results.json").read_text())
    for name in rates:
        assert results[name] == rates[name]
        assert (second / f"wer_{name}.txt").stat().st_size > 0
        errors = (second / f"errors_{name}.csv").read_text().splitlines()
        assert len(errors) == 1 + 3
    recogniser = StreamingRecogniser(second, chunk=4, left=1)
    audio = next((_corpus_template / "test").rglob("*.flac"))
    assert isinstance(recogniser.transcribe(audio), str)


def test_statistics_are_those_of_the_first_seconds_in_the_seeds_order(
    _corpus_template, tmp_path
):
    run_folder = tmp_path / "run"
    pretrain(_corpus_template, run_folder, normalize="global", normalize_seconds=3)
    rows = list(manifest(run_folder, "train").values())
    order = torch.Generator().manual_seed(1234)
    reader, budget, frames = AudioReader(16000), 48000, []
    for index in torch.randperm(len(rows), generator=order).tolist():
        signal = reader(rows[index]["wav"])[:budget]
        budget -= len(signal)
        if len(signal):
            frames.append(FrontEnd(n_mels=40).fbank(signal.unsqueeze(0))[0].double())
    assert budget == 0
    frames, saved = torch.cat(frames), statistics(run_folder)
    assert saved["frontend.statistics.num_frames"] == len(frames)
    for name, expected in (
        ("mean", frames.mean(0)),
        ("variance", frames.var(0, False)),
    ):
        value = saved[f"frontend.statistics.{name}"].double()
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.slow
def test_a_streaming_run_resumes_exactly_and_estimates_nothing_again(
    _corpus_template, tmp_path, no_estimate
):
    more = STREAMING | dict(optimizer_step_limit=None, chunk_prob=0.5)
    pretrain(_corpus_template, tmp_path / "straight", number_of_epochs=2, **more)
    pretrain(_corpus_template, tmp_path / "resumed", number_of_epochs=1, **more)
    no_estimate()
    pretrain(_corpus_template, tmp_path / "resumed", number_of_epochs=2, **more)
    assert_equal(weights(tmp_path / "straight"), weights(tmp_path / "resumed"))


def test_recognition_from_scratch_estimates_its_own_statistics(corpus, tmp_path):
    more = STREAMING | dict(n_mels=40)
    rates = finetune(corpus, tmp_path / "ctc", **more)
    assert rates.keys() == {"test"}
    assert statistics(tmp_path / "ctc")["frontend.statistics.num_frames"] >= 300


@pytest.mark.parametrize(
    "settings", [dict(chunk_prob=0.5), dict(test_chunk_size=4)], ids=str
)
def test_chunks_of_a_run_that_waits_for_the_end_are_refused(
    _corpus_template, pretrained, tmp_path, fails, settings
):
    for origin in (dict(pretrained=pretrained[0]), dict(n_mels=40)):
        fails(
            lambda origin=origin: finetune(
                _corpus_template, tmp_path / "ctc", **origin | settings
            ),
            "chunks need normalize: global",
            "normalize: utterance",
        )


def test_statistics_of_nothing_readable_are_refused(corpus, tmp_path, fails):
    for path in (corpus / "train").rglob("*.flac"):
        path.write_bytes(path.read_bytes()[:200])
    for path in (corpus / "train").rglob("*.wav"):
        path.unlink()
    fails(
        lambda: pretrain(corpus, tmp_path / "run", normalize="global"),
        "training split",
    )
