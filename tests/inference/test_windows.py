"""Long recordings are encoded in overlapping windows."""

import pytest
import soundfile
import torch
from small_corpus import tone

from speechbrain_birq.errors import BadInput
from speechbrain_birq.inference import Recogniser, SpeechEncoder, windows
from speechbrain_birq.inference.windows import encode_in_windows
from speechbrain_birq.models.frontend import Frames

pytestmark = pytest.mark.faults

FRAME_MS = 40.0  # 3,000 frames at once; windows of 1,500 with 250 at each end


def places(total):
    """Frames whose only feature is their place."""
    place = torch.arange(total, dtype=torch.float64).view(1, -1, 1)
    return Frames(place, torch.tensor([total]))


@pytest.mark.parametrize("total", [1, 3000, 3001, 3250, 4000, 4001, 10_000])
def test_every_frame_comes_once_and_with_its_context(total):
    windows_seen = []

    def encode(frames, lengths):
        assert lengths.tolist() == [frames.shape[1]]
        first, last = frames[0, 0].item(), frames[0, -1].item()
        windows_seen.append(frames.shape[1])
        ends = torch.tensor([first, last]).expand(*frames.shape[:2], 2)
        return torch.cat((frames, ends), 2)

    found = encode_in_windows(encode, places(total), FRAME_MS)
    place, first, last = found[0].unbind(1)
    assert place.tolist() == list(range(total))
    assert (first <= (place - 250).clamp(min=0)).all()
    assert (last >= (place + 250).clamp(max=total - 1)).all()
    assert max(windows_seen) == (total if total <= 3000 else 1500)


@pytest.fixture
def short_windows(monkeypatch):
    """A function that makes windows of half a second, of recordings above one."""

    def short_windows():
        for name, seconds in (("LONGEST", 1.0), ("WINDOW", 0.5), ("CONTEXT", 0.1)):
            monkeypatch.setattr(windows, name, seconds)

    return short_windows


@pytest.fixture
def long_audio(tmp_path):
    path = tmp_path / "long.wav"
    soundfile.write(path, tone(2.0, 16000, 0), 16000)
    return path


def test_features_and_text_of_a_long_recording(run_folder, long_audio, short_windows):
    recogniser = Recogniser(run_folder)
    last, first = (recogniser.features(long_audio, layer) for layer in (None, 0))
    log_probs = recogniser.log_probs(long_audio)
    sizes = []
    recogniser.encoder.register_forward_pre_hook(
        lambda _, inputs: sizes.append(inputs[0].shape[1])
    )
    short_windows()
    in_windows = recogniser.features(long_audio)
    assert in_windows.shape == last.shape and max(sizes) <= 13  # of 40 ms
    assert not torch.equal(in_windows, last)
    # The input projection looks at one frame, so windows change nothing.
    torch.testing.assert_close(recogniser.features(long_audio, 0), first)
    found = recogniser.log_probs(long_audio)
    assert found.log_probs.shape == log_probs.log_probs.shape
    assert found.lengths.tolist() == log_probs.lengths.tolist()


def test_a_recording_that_does_not_fit_into_memory_is_named(
    run_folder, long_audio, monkeypatch
):
    encoder = SpeechEncoder(run_folder)
    scope = {"__name__": "torch.nn", "torch": torch}  # not code of the user's
    exec("def too_much(*_): torch.zeros(2**60)", scope)
    monkeypatch.setattr(encoder.encoder, "forward", scope["too_much"])
    with pytest.raises(BadInput, match="2 s") as caught:
        encoder.features(long_audio)
    assert str(long_audio) in str(caught.value)
    assert isinstance(caught.value.__cause__, RuntimeError)


def nan(path):
    signal = torch.zeros(16000).numpy()
    signal[5:8] = float("nan")
    soundfile.write(path, signal, 16000, "FLOAT")


def cut(path):
    soundfile.write(path, tone(1.0, 16000, 0), 16000, format="FLAC")
    path.write_bytes(path.read_bytes()[:60])


REASONS = {
    "nan": (nan, "3 of its samples are not finite"),
    "rate": (lambda p: soundfile.write(p, [0.0] * 44101, 44101), "44101 Hz"),
    "cut": (cut, "as audio"),
    "empty": (lambda p: p.write_bytes(b""), "as audio"),
    "no samples": (lambda p: soundfile.write(p, [], 16000), "no samples"),
    "short": (lambda p: soundfile.write(p, [0.0] * 160, 16000), "it has 10 ms"),
    "short 44.1": (lambda p: soundfile.write(p, [0.0] * 882, 44100), "it has 20 ms"),
}


@pytest.mark.parametrize("write, reason", REASONS.values(), ids=REASONS)
def test_the_reason_is_the_true_one(run_folder, tmp_path, write, reason):
    path = tmp_path / "a.wav"
    write(path)
    with pytest.raises(BadInput, match=reason) as caught:
        SpeechEncoder(run_folder).features(path)
    assert str(path) in str(caught.value)
    assert ("shorter than one frame" in str(caught.value)) == ("it has" in reason)
