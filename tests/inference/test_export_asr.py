"""A fine-tuned run in SpeechBrain's EncoderASR: the texts are those of Recogniser."""

import pytest
import sentencepiece
import soundfile
import torch
from small_corpus import WORDS
from speechbrain.inference.ASR import EncoderASR
from speechbrain.inference.encoders import WaveformEncoder

from speechbrain_birq.checkpoints.checkpointer import AtomicCheckpointer
from speechbrain_birq.checkpoints.run_folder import load_architecture
from speechbrain_birq.decoding.decoders import GreedyDecoder
from speechbrain_birq.decoding.tokens import CharacterTokens
from speechbrain_birq.inference import (
    PretrainedEncoder,
    Recogniser,
    SentencePieceTokenizer,
    TokenLogProbs,
    export_run,
)
from speechbrain_birq.inference.export.tokenizers import save_tokenizer
from speechbrain_birq.models.ctc import CTCModel

BEAM = "decoding_function: !name:speechbrain.decoders.ctc.CTCBeamSearcher\n"


@pytest.fixture
def waveforms(waveforms):
    """Samples of 16 bits, because Recogniser rounds what it reads to these."""
    wavs, wav_lens = waveforms
    return (wavs * 32768).round() / 32768, wav_lens


@pytest.fixture
def files(waveforms, tmp_path):
    paths = []
    for number, (wav, share) in enumerate(zip(*waveforms, strict=True)):
        paths.append(tmp_path / f"{number}.wav")
        signal = wav[: round(len(wav) * float(share))] * 32768
        soundfile.write(paths[-1], signal.short().numpy(), 16000)
    return paths


@pytest.fixture
def run_of_pieces(run_folder, pieces):
    """The run with sentencepiece tokens and an untrained model."""
    (run_folder / "characters.json").unlink()
    pieces.save(run_folder)
    torch.manual_seed(0)
    model = CTCModel(**load_architecture(run_folder), num_tokens=len(pieces))
    checkpointer = AtomicCheckpointer(run_folder / "save", {"model": model})
    checkpointer.save_checkpoint(meta={"cer": 1.0})
    return run_folder


def texts(folder, paths, decoding="greedy"):
    recogniser = Recogniser(folder, decoding=decoding)
    return [recogniser.transcribe(path) for path in paths]


def assert_same_texts(run, exported, files, waveforms):
    model = EncoderASR.from_hparams(str(exported))
    expected = texts(run, files)
    assert all(expected)
    assert [model.transcribe_file(str(path)) for path in files] == expected
    assert model.transcribe_batch(*waveforms)[0] == expected


def test_texts_of_characters(run_folder, recogniser_folder, files, waveforms):
    assert_same_texts(run_folder, recogniser_folder, files, waveforms)


def test_texts_of_pieces(run_of_pieces, tmp_path, files, waveforms):
    export_run(run_of_pieces, tmp_path / "exported", formats=["speechbrain"])
    assert_same_texts(run_of_pieces, tmp_path / "exported", files, waveforms)


def test_texts_of_the_beam(run_folder, recogniser_folder, files):
    model = EncoderASR.from_hparams(str(recogniser_folder), overrides=BEAM)
    found = [model.transcribe_file(str(path)) for path in files]
    assert found == texts(run_folder, files, "beam")


def test_the_encoder_of_a_recogniser(run_folder, recogniser_folder, waveforms):
    model = WaveformEncoder.from_hparams(
        str(recogniser_folder), hparams_file="encoder.yaml"
    )
    expected = PretrainedEncoder(run_folder=run_folder).eval()
    with torch.no_grad():
        states = model.encode_batch(*waveforms)
        torch.testing.assert_close(states, expected(*waveforms), rtol=0, atol=1e-5)


class Frames(torch.nn.Module):
    """Instead of an encoder: S samples are S states, of which the valid ones count."""

    def __init__(self, lengths):
        super().__init__()
        self.lengths = torch.tensor(lengths)

    def encode(self, wavs, wav_lens):
        return wavs.unsqueeze(-1).expand(-1, -1, 3), self.lengths


@pytest.mark.parametrize("length", [4, 5, 6])
def test_every_frame_counts_and_no_padding_does(length):
    """wav_lens would say 5 of 10 frames; an encoder of one's own may say otherwise."""
    probs = TokenLogProbs(features=Frames([10, length]), head=torch.nn.Identity())
    wav_lens = torch.tensor([1.0, 0.5])
    out = probs(torch.ones(2, 10), wav_lens)
    # Greedy decoding rounds, the beam search cuts off.
    counted = (wav_lens * out.shape[1]).long().tolist()
    assert counted[0] >= 10 and counted[1] >= length
    assert torch.allclose(out[1, :length].exp(), torch.full((length, 3), 1 / 3))
    assert (out[1, length:].argmax(-1) == 0).all()
    assert (out[1, length:, 0] == 0).all()


def test_spaces_are_single_as_in_our_decoders(tmp_path):
    tokens = CharacterTokens.from_texts(["AB"])
    save_tokenizer(tokens, tmp_path / "tokenizer.ckpt")
    from speechbrain_birq.inference import CharacterTokenizer

    tokenizer = CharacterTokenizer()
    assert tokenizer.load_if_possible(tmp_path / "tokenizer.ckpt")
    numbers = [1, 2, 1, 1, 3, 1]
    log_probs = torch.eye(4)[torch.tensor([[1, 2, 1, 0, 1, 3, 1]])].log()
    (expected,) = GreedyDecoder(tokens)(log_probs, torch.tensor([7]))
    assert "".join(tokenizer.decode_ndim(numbers)) == expected == "A B"


def test_numbers_of_pieces_are_those_of_the_output_layer(pieces, tmp_path):
    save_tokenizer(pieces, tmp_path / "tokenizer.ckpt")
    for kind in (SentencePieceTokenizer, sentencepiece.SentencePieceProcessor):
        stock = kind()
        stock.load(str(tmp_path / "tokenizer.ckpt"))
        assert stock.id_to_piece(0) == "<blank>" and len(stock) == len(pieces)
        for word in WORDS:
            numbers = pieces.encode(word).tolist()
            assert stock.encode(word) == numbers
            assert stock.decode_ids(numbers) == pieces.decode(numbers) == word
