"""Streaming: pieces of any size give what the whole gives, and text comes early."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from speechbrain_birq.cli.main import main
from speechbrain_birq.decoding.decoders import GreedyDecoder
from speechbrain_birq.decoding.tokens import CharacterTokens, SentencePieceTokens
from speechbrain_birq.errors import BadInput
from speechbrain_birq.inference import Recogniser, StreamingRecogniser
from speechbrain_birq.inference.streaming import EncoderStream, FrameStream, TextStream
from speechbrain_birq.models.ctc import CTCModel
from speechbrain_birq.models.encoders.chunking import make_chunk
from speechbrain_birq.models.encoders.encoder import STREAMS, SpeechBrainEncoder
from speechbrain_birq.models.frontend import FrontEnd

TOKENS = CharacterTokens.from_texts(["ABC DE"])


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def make_frontend(**options):
    frontend = FrontEnd(**dict(n_mels=20, stack=2, normalize="global") | options)
    frontend.estimate([noise(16000, seed=5)], seconds=1)
    return frontend


def build(attention, kernel_size):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = SpeechBrainEncoder(
            kind="conformer",
            input_dim=40,
            num_layers=3,
            d_model=16,
            nhead=2,
            d_ffn=32,
            kernel_size=kernel_size,
            dropout=0.5,  # of no effect here
            attention_type=attention,
        )
        model = CTCModel(
            frontend=make_frontend(), encoder=encoder, num_tokens=len(TOKENS)
        )
        for parameter in model.parameters():
            parameter.data.add_(0.1 * torch.randn(parameter.shape))
    return model.eval()


@pytest.fixture(scope="module")
def models():
    """attention, kernel -> model: one kernel is wider than most chunks, one 1."""
    return {(a, k): build(a, k) for a in STREAMS for k in (1, 9)}


pieces = st.lists(st.integers(0, 5000), min_size=1, max_size=8)


# The front end


@settings(max_examples=40, deadline=None)
@given(
    pieces, st.integers(1, 4), st.sampled_from([(16000, 25), (8000, 25), (8000, 60)])
)
def test_frames_of_pieces_are_those_of_the_whole(sizes, stack, rate):
    frontend = make_frontend(stack=stack, sample_rate=rate[0], win_length=rate[1])
    signal = noise(sum(sizes))
    assume(len(signal) > 0)
    stream = FrameStream(frontend)
    parts = [stream.feed(piece) for piece in signal.split(sizes)] + [stream.finish()]
    whole = frontend(signal.unsqueeze(0), torch.ones(1)).frames[0]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-4)


def test_a_frame_comes_with_the_last_sample_of_its_window():
    stream = FrameStream(make_frontend(stack=1))
    assert [len(stream.feed(noise(n))) for n in (199, 1, 159, 1, 160)] == [
        0,
        1,
        0,
        1,
        1,
    ]


def test_the_front_end_remembers_less_than_two_windows():
    stream = FrameStream(make_frontend())
    for _ in range(20):
        stream.feed(noise(3001))
        assert len(stream.samples) < 800


def test_no_sample_gives_no_frame():
    stream = FrameStream(make_frontend())
    assert stream.feed(torch.zeros(0)).shape == (0, 40)
    assert stream.finish().shape == (0, 40)


# The recogniser


@settings(max_examples=40, deadline=None)
@given(
    attention=st.sampled_from(STREAMS),
    kernel=st.sampled_from([1, 9]),
    size=st.integers(1, 12),
    left=st.sampled_from([None, 0, 1, 3]),
    sizes=pieces,
)
@torch.no_grad()
def test_streaming_is_chunked_encoding_of_the_whole(
    models, attention, kernel, size, left, sizes
):
    model, chunk = models[attention, kernel], make_chunk(size, left)
    signal = noise(sum(sizes))
    assume(model.frontend.num_frames(len(signal)) > 0)
    expected = model(signal.unsqueeze(0), torch.ones(1), chunk)
    stream = TextStream(model, TOKENS, chunk)
    parts = [stream.log_probs(piece) for piece in signal.split(sizes)]
    parts.append(stream.last_log_probs())
    torch.testing.assert_close(
        torch.cat(parts), expected.log_probs[0], rtol=0, atol=1e-4
    )
    stream = TextStream(model, TOKENS, chunk)
    texts = [stream.feed(piece) for piece in signal.split(sizes)] + [stream.finish()]
    (text,) = GreedyDecoder(TOKENS)(*expected)
    assert "".join(texts) == stream.text == text


@torch.no_grad()
def test_full_context_is_something_else(models):
    """The power of the test above: these models do look ahead if they may."""
    signal = noise(1, 16000)
    for model in models.values():
        whole, chunked = (
            model(signal, torch.ones(1), c) for c in (None, make_chunk(4))
        )
        assert (whole.log_probs - chunked.log_probs).abs().max() > 0.1


@torch.no_grad()
def test_text_comes_before_the_utterance_is_over(models):
    stream = TextStream(models["RoPEMHA", 9], TOKENS, make_chunk(4, 2))
    spoken = [len(stream.log_probs(piece)) for piece in noise(16000).split(1600)]
    # 5 frames of 20 ms a piece; a window reaches 200 samples beyond its center.
    assert spoken == [4, 4, 4, 4, 8, 4, 4, 4, 8, 4]


@torch.no_grad()
def test_what_a_layer_remembers_is_bounded_by_the_left_context(models):
    model = models["RoPEMHA", 9]
    stream = EncoderStream(model.encoder, make_chunk(4, 2))
    for _ in range(6):
        stream.feed(noise(7, 40))
    for context in stream.contexts:
        assert context.mha_left_context.shape[1] == 4 * 2
        assert context.dcconv_left_context.shape[1] == 4


def test_two_streams_do_not_hear_each_other(models):
    model, chunk = models["RoPEMHA", 9], make_chunk(4, 2)
    first, second = (TextStream(model, TOKENS, chunk) for _ in range(2))
    signals = noise(2, 9600)
    together = [[], []]
    for start in range(0, 9600, 2400):
        for stream, signal, parts in zip(
            (first, second), signals, together, strict=True
        ):
            parts.append(stream.log_probs(signal[start : start + 2400]))
    for signal, parts in zip(signals, together, strict=True):
        alone = TextStream(model, TOKENS, chunk).log_probs(signal)
        torch.testing.assert_close(torch.cat(parts), alone, rtol=0, atol=1e-4)


def test_too_little_audio_gives_no_text(models):
    stream = TextStream(models["RoPEMHA", 9], TOKENS, make_chunk(4))
    assert stream.feed(noise(100)) + stream.finish() == ""


def test_subwords_keep_their_spaces_across_pieces(models, tmp_path):
    texts = ["THE CAT SAT ON THE MAT", "A DOG AND A CAT", "THE DOG SAT"]
    tokens = SentencePieceTokens.from_texts(texts, 18, tmp_path)
    stream = TextStream(models["RoPEMHA", 9], tokens, make_chunk(4))
    numbers = tokens.encode(texts[0]).tolist()
    given_out = []
    for number in numbers:  # as if each came in a chunk of its own, blanks between
        scores = torch.zeros(2, len(tokens))
        scores[0, number] = scores[1, 0] = 1
        given_out.append(stream.decode(scores))
    assert "".join(given_out) == texts[0]
    assert sum(map(bool, given_out)) > 3


def test_a_model_that_waits_for_the_end_is_refused(models):
    model = models["RoPEMHA", 9]
    waiting = CTCModel(
        frontend=FrontEnd(n_mels=20), encoder=model.encoder, num_tokens=9
    )
    with pytest.raises(ValueError, match="need normalize: global"):
        TextStream(waiting, TOKENS, make_chunk(4))


# Run folders


@pytest.fixture
def audio(corpus):
    return sorted((corpus / "test").rglob("*.flac"))


@pytest.fixture
def streaming_run(make_run_folder):
    return make_run_folder("global")


@torch.no_grad()
def test_a_run_folder_streams_what_its_model_says_in_chunks(streaming_run, audio):
    recogniser = StreamingRecogniser(streaming_run, chunk=4, left=1)
    whole, seconds = Recogniser(streaming_run), 0
    for file in audio:
        signal = whole.read(file)
        seconds += signal.shape[1] / 16000
        said = whole(signal, torch.ones(1), make_chunk(4, 1))
        assert recogniser.transcribe(file) == GreedyDecoder(whole.tokens)(*said)[0]
    assert recogniser.seconds == pytest.approx(seconds)
    assert recogniser.chunk_ms == 4 * 40


@torch.no_grad()
def test_what_is_said_of_a_whole_recording_is_what_the_stream_says(
    streaming_run, audio
):
    recogniser, whole = (
        StreamingRecogniser(streaming_run, chunk=4, left=1),
        Recogniser(streaming_run),
    )
    file = audio[0]
    stream = recogniser.open()
    streamed = torch.cat(
        [stream.log_probs(recogniser.reader(file)), stream.last_log_probs()]
    )
    ((found,), _), ((full,), _) = recogniser.log_probs(file), whole.log_probs(file)
    torch.testing.assert_close(found, streamed, rtol=0, atol=1e-4)
    assert not torch.allclose(full, streamed, rtol=0, atol=1e-2)
    assert recogniser.transcript(file).text == recogniser.transcribe(file)
    (listed,) = recogniser.transcripts_of([file])
    assert listed.text == recogniser.transcribe(file)


def test_a_finished_utterance_takes_no_more(models):
    stream = TextStream(models["RoPEMHA", 9], TOKENS, make_chunk(4))
    stream.feed(noise(1600))
    stream.finish()
    for more in (lambda: stream.feed(noise(10)), stream.finish):
        with pytest.raises(BadInput, match="was finished: open another stream"):
            more()


def test_a_run_folder_brings_its_statistics(streaming_run):
    recogniser = Recogniser(streaming_run)
    path = recogniser.checkpoint / "model.ckpt"
    saved = torch.load(path, weights_only=True)
    statistics = recogniser.frontend.statistics
    assert statistics.num_frames == 201
    assert torch.equal(statistics.mean, saved["frontend.statistics.mean"])
    assert torch.equal(statistics.variance, saved["frontend.statistics.variance"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(chunk=0), "at least 1 frame, got 0"),
        (dict(chunk=-3), "at least 1 frame, got -3"),
        (dict(chunk=4, left=-1), "0 or more chunks to its left, got -1"),
    ],
)
def test_there_are_no_such_chunks(streaming_run, options, words):
    with pytest.raises(BadInput, match=words):
        StreamingRecogniser(streaming_run, **options)


def test_a_run_that_cannot_stream_says_why(run_folder):
    with pytest.raises(BadInput, match=r"cannot stream with .*need normalize: global"):
        StreamingRecogniser(run_folder, chunk=4)


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        (torch.zeros(1, 1600), r"\(1, 1600\)"),  # would have been heard as silence
        (torch.zeros(1600, dtype=torch.int16), "int16"),
        (torch.full((1600,), torch.nan), "not finite"),
        (np.zeros(1600), "not ndarray"),
    ],
)
def test_samples_that_would_spoil_a_stream_are_refused(streaming_run, samples, words):
    stream = StreamingRecogniser(streaming_run, chunk=4, left=1).open()
    with pytest.raises(BadInput, match=words):
        stream.feed(samples)


def test_the_command_streams_and_tells_its_speed(streaming_run, audio, capsys):
    files = list(map(str, audio))
    main(["transcribe", str(streaming_run), *files, "--chunk", "4", "--left", "1"])
    printed = capsys.readouterr()
    recogniser = StreamingRecogniser(streaming_run, chunk=4, left=1)
    lines = [f"{file}\t{recogniser.transcribe(file)}" for file in files]
    assert printed.out.splitlines() == lines
    (last,) = printed.err.splitlines()
    assert last.startswith("real-time factor ")
    assert float(last.split()[2].rstrip(",")) > 0
    assert "latency of the method 160 ms" in last


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--left", "1"], "give --chunk, too"),
        (["--chunk", "4", "--decoding", "beam"], "leave out --decoding"),
        (["--chunk", "0"], "at least 1 frame"),
    ],
)
def test_options_that_do_not_go_together_are_one_sentence(
    streaming_run, audio, capsys, options, words
):
    with pytest.raises(SystemExit) as caught:
        main(["transcribe", str(streaming_run), str(audio[0]), *options])
    assert caught.value.code == 2
    (message,) = capsys.readouterr().err.splitlines()
    assert message.startswith("error: ")
    assert words in message
