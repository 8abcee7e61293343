"""Fixtures: runs that are exported in every format, and a padded batch of tones."""

import pytest
import torch
from small_corpus import WORDS, tone

from speechbrain_birq.decoding.tokens import SentencePieceTokens
from speechbrain_birq.inference import export_run


@pytest.fixture
def pretrained_folder(make_run_folder):
    """Folder of a run without tokens."""
    folder = make_run_folder()
    (folder / "characters.json").unlink()
    return folder


@pytest.fixture
def recogniser_folder(tmp_path, run_folder):
    """An exported fine-tuned run, in every format."""
    export_run(run_folder, tmp_path / "exported")
    return tmp_path / "exported"


@pytest.fixture
def waveforms():
    """Three tones of different lengths: (B, S), and their relative lengths (B,)."""
    wavs = [torch.from_numpy(tone(s, 16000, i)).float() for i, s in LENGTHS]
    padded = torch.nn.utils.rnn.pad_sequence(wavs, batch_first=True)
    return padded, torch.tensor([len(w) / padded.shape[1] for w in wavs])


# Seconds at which SpeechBrain's decoders would count one frame too many or too few.
LENGTHS = [(0, 1.0), (1, 0.685), (2, 1.31)]


@pytest.fixture
def pieces(tmp_path):
    """Tokens of a sentencepiece model, trained on digits."""
    texts = [" ".join(WORDS), "ONE ONE TWO", "THREE THREE FOUR", *WORDS] * 5
    return SentencePieceTokens.from_texts(texts, 24, tmp_path)
