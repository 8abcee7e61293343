"""Chunks: who sees whom, padding, sampling, and what cannot be run in them."""

import shutil
from pathlib import Path

import pytest
import torch

from speechbrain_birq.config import load_configuration
from speechbrain_birq.errors import BadInput
from speechbrain_birq.models.encoders.chunking import (
    ChunkSampler,
    check_chunks,
    chunk_arguments,
    make_chunk,
)
from speechbrain_birq.models.encoders.encoder import STREAMS
from speechbrain_birq.models.encoders.inputs import ConvolutionalInput
from speechbrain_birq.models.frontend import FrontEnd

ROOT = Path(__file__).parents[3]
LENGTHS = (1, 2, 3, 9, 40)
CHUNKS = [make_chunk(4, 0), make_chunk(4, 1), make_chunk(4), make_chunk(1, 2)]
DIM = 40


@pytest.fixture(params=STREAMS)
def encoder(request, make_encoder):
    return make_encoder(attention_type=request.param)


def utterances(lengths=LENGTHS, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(length, DIM, generator=generator) for length in lengths]


def padded(signals, fill=0.0, extra=0):
    longest = max(map(len, signals)) + extra
    batch = torch.full((len(signals), longest, DIM), fill)
    for row, signal in zip(batch, signals, strict=True):
        row[: len(signal)] = signal
    return batch, torch.tensor([len(s) for s in signals])


def close(first, second):
    torch.testing.assert_close(first, second, rtol=0, atol=1e-5)


def encode(encoder, frames, chunk):
    """(T, D) -> (T, H)"""
    with torch.no_grad():
        return encoder(frames.unsqueeze(0), torch.tensor([len(frames)]), chunk=chunk)[0]


@pytest.mark.parametrize("chunk", CHUNKS, ids=str)
def test_a_later_chunk_has_no_influence(encoder, chunk):
    (frames,) = utterances((22,))
    before, size = encode(encoder, frames, chunk), chunk.chunk_size
    for start in range(size, 22, size):
        changed = frames.clone()
        changed[start:] += 5
        after = encode(encoder, changed, chunk)
        close(after[:start], before[:start])
        assert ((after - before)[start:].abs().amax(1) > 1e-3).all()


@pytest.mark.parametrize("chunk", CHUNKS, ids=str)
def test_the_first_chunks_alone_are_those_of_the_whole(encoder, chunk):
    (frames,) = utterances((22,))
    whole = encode(encoder, frames, chunk)
    for cut in (4, 8, 12):
        close(encode(encoder, frames[:cut], chunk), whole[:cut])


def test_a_frame_sees_its_own_chunk_up_to_the_end(encoder):
    (frames,) = utterances((8,))
    changed = frames.clone()
    changed[3] += 5
    moved = encode(encoder, changed, make_chunk(4)) - encode(
        encoder, frames, make_chunk(4)
    )
    assert (moved.abs().amax(1) > 1e-3).all()


def test_left_context_ends_where_it_should(make_encoder):
    """One layer: attention reaches `left` chunks, the convolution its kernel."""
    encoder = make_encoder(num_layers=1)  # kernel 5: into the chunk before
    (frames,) = utterances((16,))
    changed = frames.clone()
    changed[:4] += 5

    def moved(left):
        chunk = make_chunk(4, left)
        both = (encode(encoder, f, chunk) for f in (changed, frames))
        return [d.abs().max() > 1e-4 for d in torch.sub(*both).split(4)]

    assert moved(0) == [True, True, False, False]
    assert moved(1) == [True, True, True, False]
    assert moved(None) == [True, True, True, True]


def test_a_chunk_as_long_as_the_utterance_is_the_whole(encoder):
    (frames,) = utterances((22,))
    close(encode(encoder, frames, make_chunk(22, 0)), encode(encoder, frames, None))


@pytest.mark.parametrize("chunk", CHUNKS, ids=str)
@torch.no_grad()
def test_padding_changes_nothing(encoder, chunk):
    signals = utterances()
    for batch in (padded(signals), padded(signals, 1000.0, extra=13)):
        together = encoder(*batch, chunk=chunk)
        assert together.isfinite().all()
        for mine, signal in zip(together, signals, strict=True):
            close(mine[: len(signal)], encode(encoder, signal, chunk))


@pytest.mark.parametrize("chunk", CHUNKS, ids=str)
def test_gradients_are_finite_and_none_reaches_padding(encoder, chunk):
    frames, lengths = padded(utterances(), extra=5)
    frames.requires_grad_()
    valid = torch.arange(frames.shape[1]) < lengths.unsqueeze(1)
    encoder.train()(frames, lengths, chunk=chunk)[valid].sin().sum().backward()
    assert frames.grad[~valid].abs().max() < 1e-6
    for name, parameter in encoder.named_parameters():
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("chunk", CHUNKS, ids=str)
def test_the_masks_are_those_of_a_loop(chunk):
    lengths, time = [1, 9, 12], 12
    padding = torch.arange(time) >= torch.tensor(lengths).unsqueeze(1)
    arguments = chunk_arguments(padding, chunk)
    hidden = arguments["src_mask"] | arguments["src_key_padding_mask"].unsqueeze(1)
    left = time if chunk.left_context_size is None else chunk.left_context_size
    for b, length in enumerate(lengths):
        for query in range(length):
            for key in range(time):
                distance = query // chunk.chunk_size - key // chunk.chunk_size
                seen = 0 <= distance <= left and key < length
                assert hidden[b, query, key].item() is not seen
    assert not hidden.all(-1).any()  # no softmax over nothing


@torch.no_grad()
def test_early_exit_works_in_chunks(encoder):
    batch, chunk = padded(utterances()), make_chunk(4, 1)
    last = encoder(*batch, num_layers=encoder.num_layers, chunk=chunk)
    assert torch.equal(encoder.norm(last), encoder(*batch, chunk=chunk))


# What cannot be run in chunks


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("transformer", {}, "only a conformer runs in chunks, not a transformer"),
        ("branchformer", {"attention_type": "RelPosMHAXL"}, "not a branchformer"),
        ("conformer", {"attention_type": "regularMHA"}, "'regularMHA' does not run"),
    ],
)
def test_other_encoders_are_refused_by_name(make_encoder, kind, options, words):
    encoder = make_encoder(kind, **options)
    for call in (
        encoder.check_chunks,
        lambda: encode(encoder, torch.zeros(8, DIM), make_chunk(4)),
        lambda: encoder.streaming_contexts(make_chunk(4)),
    ):
        with pytest.raises(ValueError, match=words):
            call()


def test_an_input_that_looks_ahead_is_refused_by_name(make_encoder):
    conv = ConvolutionalInput(input_dim=160, d_model=16, channels=(8, 4))
    with pytest.raises(ValueError, match="ConvolutionalInput looks into the next"):
        make_encoder(input_dim=160, input_module=conv).check_chunks()


def test_a_front_end_that_waits_for_the_end_is_refused_by_name(make_encoder):
    with pytest.raises(ValueError, match=r"chunks need normalize: global.*utterance"):
        check_chunks(FrontEnd(), make_encoder())
    check_chunks(FrontEnd(normalize="global"), make_encoder())


@pytest.mark.parametrize(("size", "left"), [(0, None), (-1, None), (4, -1)])
def test_there_are_no_such_chunks(size, left):
    with pytest.raises(ValueError, match=r"a chunk (has|sees)"):
        make_chunk(size, left)


# Sampling


def test_draws_lie_in_their_ranges_and_have_their_probabilities():
    torch.manual_seed(0)
    sample = ChunkSampler(
        chunk_prob=0.75,
        chunk_min=2,
        chunk_max=5,
        left_chunks_prob=0.5,
        left_chunks_min=1,
        left_chunks_max=3,
    )
    draws = [sample() for _ in range(2000)]
    chunks = [draw for draw in draws if draw is not None]
    lefts = [c.left_context_size for c in chunks if c.left_context_size is not None]
    assert len(chunks) / 2000 == pytest.approx(0.75, abs=0.04)
    assert len(lefts) / len(chunks) == pytest.approx(0.5, abs=0.05)
    for drawn, values in (
        ([c.chunk_size for c in chunks], range(2, 6)),
        (lefts, (1, 2, 3)),
    ):
        assert set(drawn) == set(values)
        for value in values:
            share = drawn.count(value) / len(drawn)
            assert share == pytest.approx(1 / len(values), abs=0.06)


def test_torchs_generator_decides():
    sample = ChunkSampler(chunk_prob=0.5, left_chunks_prob=0.5, left_chunks_max=9)
    torch.manual_seed(3)
    first = [sample() for _ in range(50)]
    torch.manual_seed(3)
    assert [sample() for _ in range(50)] == first


def test_without_chunks_nothing_is_drawn():
    state = torch.get_rng_state()
    assert ChunkSampler(chunk_prob=0)() is None
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(chunk_prob=1.5), "chunk_prob must lie"),
        (dict(chunk_prob=1, left_chunks_prob=-1), "left_chunks_prob must lie"),
        (
            dict(chunk_prob=1, chunk_min=9, chunk_max=8),
            "chunk_min 9 is above chunk_max",
        ),
        (dict(chunk_prob=1, chunk_min=0, chunk_max=8), "at least 1 frame"),
        (
            dict(chunk_prob=1, left_chunks_min=2, left_chunks_max=1),
            "left_chunks_min 2 is above",
        ),
        (dict(chunk_prob=1, left_chunks_min=-1), "0 or more chunks to its left"),
    ],
)
def test_ranges_and_probabilities_that_do_not_fit_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        ChunkSampler(**options)


# Models


@pytest.fixture
def spy(monkeypatch):
    """spy(encoder): the (num_layers, chunk) of its calls from now on."""

    def attach(encoder):
        calls, forward = [], encoder.forward

        def spied(frames, lengths, num_layers=None, chunk=None):
            calls.append((num_layers, chunk))
            return forward(frames, lengths, num_layers, chunk)

        monkeypatch.setattr(encoder, "forward", spied)
        return calls

    return attach


def test_only_the_masked_pass_of_training_is_chunked(make_model, spy):
    model = make_model()
    model.chunking = ChunkSampler(chunk_prob=1, chunk_min=3, chunk_max=3)
    calls = spy(model.encoder)
    wavs, lens = 0.1 * torch.randn(2, 4800), torch.ones(2)
    mask = torch.zeros(2, 15, dtype=torch.bool)
    mask[:, 4:9] = True
    model(wavs, lens, mask)
    assert calls == [(1, None), (None, make_chunk(3))]
    calls.clear()
    model.eval()(wavs, lens, mask)
    assert calls == [(1, None), (None, None)]


# YAML


@pytest.fixture
def load(tmp_path):
    hparams = shutil.copytree(ROOT / "hparams", tmp_path / "hparams")

    def load(name, **overrides):
        path = hparams / name
        folders = dict(data_folder="x", output_folder=str(tmp_path / "out"))
        return load_configuration(path, folders | overrides).hparams

    return load


def test_chunks_are_off_in_the_shipped_files(load):
    for name in ("birq_tiny.yaml", "ctc_tiny.yaml"):
        loaded = load(name)
        assert loaded["frontend"].normalize == "utterance"
        assert not loaded["chunking"].active


def test_the_keys_reach_the_parts(load):
    keys = dict(chunk_prob=1.0, chunk_min=3, chunk_max=3, left_chunks_prob=1.0)
    keys |= dict(left_chunks_min=2, left_chunks_max=2, normalize="global")
    loaded = load("birq_tiny.yaml", **keys)
    assert loaded["frontend"].normalize == "global"
    assert loaded["model"].chunking() == make_chunk(3, 2)
    loaded = load("ctc_tiny.yaml", **keys)
    assert loaded["model"].keywords["chunking"]() == make_chunk(3, 2)


GLOBAL = dict(normalize="global", d_model=16, chunk_prob=0.5)


@pytest.mark.parametrize(
    ("encoder", "keys", "words"),
    [
        ("conformer", GLOBAL | dict(normalize="utterance"), "need normalize: global"),
        ("transformer", GLOBAL, "not a transformer"),
        ("branchformer", GLOBAL, "not a branchformer"),
        ("conformer", GLOBAL | dict(chunk_prob=1.5), "takes a number from 0 to 1"),
        ("conformer", GLOBAL | dict(chunk_min=9, chunk_max=8), "chunk_min 9 is above"),
        ("conformer", dict(chunk_min=0), "chunk_min takes a whole number above 0"),
        ("conformer", dict(chunk_max=-8), "chunk_max takes a whole number above 0"),
        ("conformer", dict(left_chunks_min=-1), "takes a whole number from 0"),
        ("conformer", dict(normalize="batch"), "'utterance' or 'global'"),
        ("conformer", dict(normalize=5), "normalize takes a text"),
        ("conformer", dict(normalize_seconds=0), "takes a number above 0"),
    ],
)
def test_what_does_not_go_together_is_refused_when_the_yaml_loads(
    load, encoder, keys, words
):
    with pytest.raises(BadInput, match=words):
        load("birq_tiny.yaml", encoder_kind=encoder, **keys)


@pytest.mark.parametrize("key", ["test_chunk_size", "test_left_chunks"])
def test_chunks_of_the_test_splits_are_checked(load, key):
    assert load("ctc_tiny.yaml", **{key: 4})[key] == 4
    assert load("ctc_tiny.yaml", **{key: None})[key] is None
    with pytest.raises(BadInput, match=f"{key} takes a whole number"):
        load("ctc_tiny.yaml", **{key: -1})
