"""A run folder on anybody's audio."""

import numpy as np
import pytest
import soundfile
import torch

from speechbrain_birq.checkpoints.checkpointer import AtomicCheckpointer
from speechbrain_birq.checkpoints.run_folder import best_checkpoint, load_architecture
from speechbrain_birq.decoding.decoders import GreedyDecoder
from speechbrain_birq.decoding.tokens import load_tokens
from speechbrain_birq.errors import BadInput
from speechbrain_birq.inference import Recogniser, SpeechEncoder
from speechbrain_birq.inference.layers import layer_numbers
from speechbrain_birq.models.ctc import CTCModel


@pytest.fixture
def audio(corpus):
    return next((corpus / "test").rglob("*.flac"))


def saved_model(folder):
    model = CTCModel(**load_architecture(folder), num_tokens=len(load_tokens(folder)))
    path = best_checkpoint(folder) / "model.ckpt"
    model.load_state_dict(torch.load(path, weights_only=True))
    return model.eval()


def test_text_is_what_the_saved_model_says(run_folder, audio):
    signal = torch.from_numpy(soundfile.read(audio, dtype="float32")[0]).unsqueeze(0)
    with torch.no_grad():
        expected = saved_model(run_folder)(signal, torch.ones(1))
    decode = GreedyDecoder(load_tokens(run_folder))
    assert Recogniser(run_folder).transcribe(audio) == decode(*expected)[0]


@pytest.mark.parametrize("kind", [SpeechEncoder, Recogniser])
def test_the_weights_are_of_the_lowest_cer_not_the_newest(run_folder, kind):
    good = saved_model(run_folder)
    worse = CTCModel(**load_architecture(run_folder), num_tokens=good.head.out_features)
    checkpointer = AtomicCheckpointer(run_folder / "save", {"model": worse})
    checkpointer.save_checkpoint(meta={"cer": 60.0})
    run = kind(run_folder)
    torch.testing.assert_close(run.encoder.state_dict(), good.encoder.state_dict())
    if kind is Recogniser:
        torch.testing.assert_close(run.head.weight, good.head.weight)


def test_beam_and_greedy_both_give_known_characters(run_folder, audio):
    known = set("".join(load_tokens(run_folder).vocabulary[1:]))
    for decoding in ("greedy", "beam"):
        assert set(Recogniser(run_folder, decoding=decoding).transcribe(audio)) <= known


def test_layers_are_the_encoders_hidden_states(run_folder, audio):
    encoder = SpeechEncoder(run_folder)
    with torch.no_grad():
        frames = encoder.frontend(encoder.read(audio), torch.ones(1))
        states = saved_model(run_folder).encoder.hidden_states(*frames)
        last = saved_model(run_folder).encoder(*frames)
    for layer, state in enumerate(states):
        torch.testing.assert_close(encoder.features(audio, layer), state[0])
    torch.testing.assert_close(encoder.features(audio), last[0])


def test_rate_and_channels_on_disk_do_not_matter(run_folder, tmp_path, audio):
    signal, rate = soundfile.read(audio, dtype="float32")
    stereo = tmp_path / "stereo.wav"
    soundfile.write(stereo, torch.from_numpy(signal).repeat(2, 1).T.numpy(), rate)
    encoder = SpeechEncoder(run_folder)
    # 16-bit files hold multiples of 2^-15.
    torch.testing.assert_close(
        encoder.read(stereo), encoder.read(audio), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("layer", [-1, 3])
def test_a_layer_that_is_not_there_is_refused(run_folder, audio, layer):
    with pytest.raises(BadInput, match=f"no layer {layer}: the encoder has 0 to 2"):
        SpeechEncoder(run_folder).features(audio, layer)


@pytest.mark.parametrize("layer", ["2", 1.5, [1, "2"]])
def test_what_is_no_number_is_no_layer(layer):
    with pytest.raises(BadInput, match="give a number, numbers or all"):
        layer_numbers(layer, 3)


def test_integers_of_numpy_are_numbers_of_layers():
    assert layer_numbers(np.int64(2), 3) == 2
    assert layer_numbers([np.int64(0), 2], 3) == [0, 2]


def test_bad_audio_is_named_in_one_sentence(run_folder, tmp_path):
    encoder = SpeechEncoder(run_folder)
    text, short = tmp_path / "text.wav", tmp_path / "short.wav"
    text.write_text("no audio")
    soundfile.write(short, [0.0] * 100, 16000)
    for path, words in (
        (tmp_path / "none.wav", "no audio file"),
        (text, "cannot read"),
        (short, "shorter than one frame"),
    ):
        with pytest.raises(BadInput, match=words):
            encoder.features(path)


def test_a_pretraining_has_no_tokens_to_transcribe_with(run_folder):
    (run_folder / "characters.json").unlink()
    with pytest.raises(BadInput, match="holds no tokens"):
        Recogniser(run_folder)
