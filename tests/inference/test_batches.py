"""Many recordings: in batches they give what each gives alone."""

import pytest
import soundfile
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_corpus import tone

from speechbrain_birq.errors import BadInput
from speechbrain_birq.inference import SpeechEncoder, batches, windows
from speechbrain_birq.inference.batches import plan_batches, read_ahead


def signal(samples, seed=0):
    return torch.from_numpy(tone(samples / 16000, 16000, seed)).float()


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    sizes=st.lists(st.integers(640, 24000), min_size=1, max_size=6),
    batch_seconds=st.sampled_from([0.1, 1.0, 2.5, 200.0]),
    layer=st.sampled_from([None, 0, 1, "all"]),
)
def test_batches_and_padding_do_not_matter(run_folder, sizes, batch_seconds, layer):
    encoder = SpeechEncoder(run_folder)
    recordings = [signal(size, seed) for seed, size in enumerate(sizes)]
    found = encoder.features_of(recordings, layer, batch_seconds)
    for states, recording in zip(found, recordings, strict=True):
        alone = encoder.features(recording, layer)
        torch.testing.assert_close(states, alone, rtol=0, atol=1e-5)


@given(
    st.lists(st.floats(0, 300), max_size=40), st.floats(0.5, 500), st.integers(1, 10)
)
def test_a_plan_has_every_recording_once_in_batches_that_fit(seconds, most, pool):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "POOL", pool)
        plan = plan_batches(seconds, most)
    assert sorted(index for batch in plan for index in batch) == list(
        range(len(seconds))
    )
    for batch in plan:
        longest = max(seconds[index] for index in batch)
        assert len(batch) == 1 or len(batch) * longest <= most * 1.001
        assert len(batch) == 1 or longest <= windows.LONGEST
        assert len({index // pool for index in batch}) == 1


def test_recordings_of_similar_length_share_a_batch():
    plan = plan_batches([1, 9, 1, 9, 1, 9], batch_seconds=27)
    assert [sorted(batch) for batch in plan] == [[1, 3, 5], [0, 2, 4]]


@pytest.fixture
def files(tmp_path):
    """Four recordings; the second is no audio, the fourth too short."""
    paths = [tmp_path / f"{name}.wav" for name in "abcd"]
    for path, size in zip(paths, (16000, 0, 24000, 100), strict=True):
        soundfile.write(path, signal(size) if size else [], 16000)
    paths[1].write_text("no audio")
    return paths


def test_a_bad_recording_has_its_reason_and_the_others_go_on(run_folder, files):
    encoder = SpeechEncoder(run_folder)
    outcomes = {o.index: o for o in encoder.features_as_completed(files)}
    assert sorted(outcomes) == [0, 1, 2, 3]
    for index in (0, 2):
        alone = encoder.features(files[index])
        torch.testing.assert_close(outcomes[index].result(), alone, rtol=0, atol=1e-5)
    for index, words in ((1, "cannot read"), (3, "shorter than one frame")):
        with pytest.raises(BadInput, match=words) as caught:
            outcomes[index].result()
        assert str(files[index]) in str(caught.value)


@pytest.mark.faults
def test_a_list_with_a_bad_recording_is_refused(run_folder, files):
    with pytest.raises(BadInput, match=r"cannot read|shorter than one frame"):
        SpeechEncoder(run_folder).features_of(files)


def test_one_file_in_place_of_many_is_refused(run_folder):
    with pytest.raises(BadInput, match=r"a\.wav is one recording: give a list"):
        SpeechEncoder(run_folder).features_of("a.wav")


def test_many_recordings_need_not_be_a_list(run_folder):
    samples = [signal(16000), signal(8000)]
    encoder = SpeechEncoder(run_folder)
    found = encoder.features_of(recording for recording in samples)
    assert [len(states) for states in found] == [
        len(encoder.features(recording)) for recording in samples
    ]


def test_no_recordings_give_no_features(run_folder):
    assert SpeechEncoder(run_folder).features_of([]) == []


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_batches_of_no_seconds_are_refused(run_folder, seconds):
    with pytest.raises(BadInput, match="batch_seconds"):
        SpeechEncoder(run_folder).features_of([signal(16000)], None, seconds)


@pytest.mark.faults
def test_a_batch_that_does_not_fit_into_memory_is_encoded_one_by_one(
    run_folder, monkeypatch
):
    encoder, sizes = SpeechEncoder(run_folder), []
    recordings = [signal(16000 * n) for n in (1, 2, 3)]
    expected = [encoder.features(recording) for recording in recordings]
    forward = encoder.encoder.forward

    def small_memory(frames, lengths, **options):
        sizes.append(tuple(frames.shape[:2]))
        if frames.shape[0] > 1 or frames.shape[1] > 60:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(frames, lengths, **options)

    monkeypatch.setattr(encoder.encoder, "forward", small_memory)
    outcomes = {o.index: o for o in encoder.features_as_completed(recordings)}
    assert sizes == [(3, 75), (1, 75), (1, 50), (1, 25)]
    for index in (0, 1):
        assert torch.equal(outcomes[index].result(), expected[index])
    with pytest.raises(BadInput, match="a tensor of 48000 samples, 3 s"):
        outcomes[2].result()


def test_a_long_recording_goes_in_windows_among_others(run_folder, monkeypatch):
    for name, seconds in (("LONGEST", 1.0), ("WINDOW", 0.5), ("CONTEXT", 0.1)):
        monkeypatch.setattr(windows, name, seconds)
    monkeypatch.setattr(batches, "LONGEST", 1.0)
    encoder, sizes = SpeechEncoder(run_folder), []
    recordings = [signal(16000), signal(30000), signal(16000)]
    expected = [encoder.features(recording) for recording in recordings]
    encoder.encoder.register_forward_pre_hook(lambda _, x: sizes.append(x[0].shape[:2]))
    for states, alone in zip(encoder.features_of(recordings), expected, strict=True):
        torch.testing.assert_close(states, alone, rtol=0, atol=1e-5)
    assert max(length for count, length in sizes if count == 1) <= 13  # of 40 ms
    assert (2, 25) in sizes


def test_reading_is_a_few_batches_ahead_and_stops_with_its_reader():
    read = []
    reading = read_ahead([[n] for n in range(50)], lambda n: read.append(n) or n)
    assert next(reading) == ([0], [0])
    reading.close()
    assert len(read) <= 1 + batches.AHEAD
