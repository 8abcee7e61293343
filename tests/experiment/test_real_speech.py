"""What tones cannot show: the corpora's own layout and codes of real speech."""

import os
from pathlib import Path

import pytest
import torch

from speechbrain_birq.data.corpora.librispeech import prepare_librispeech
from speechbrain_birq.data.manifest import read_manifest
from speechbrain_birq.data.pipeline import AudioReader
from speechbrain_birq.metrics.codebook import code_usage
from speechbrain_birq.models.frontend import FrontEnd
from speechbrain_birq.models.labels.quantizer import Codebook, RandomProjectionQuantizer

CORPORA = Path(
    os.environ.get("BIRQ_CORPORA", Path(__file__).parents[3] / "shared" / "corpora")
)
pytestmark = [
    pytest.mark.corpora,
    pytest.mark.skipif(
        not CORPORA.is_dir(), reason=f"no real speech in {CORPORA} (BIRQ_CORPORA)"
    ),
]


@pytest.mark.parametrize(
    ("corpus", "split", "utterances", "speakers", "minutes"),
    [
        ("so762", "dev", 56, 5, 3.2),  # FLAC
        ("so762", "pretrain", 3720, 186, 60 * 3.89),  # Ogg Opus
        ("digits", "dev", 42, 1, 2.3),  # 8 kHz
    ],
)
def test_a_split_is_read_whole(tmp_path, corpus, split, utterances, speakers, minutes):
    prepare_librispeech(CORPORA / corpus, [split], tmp_path)
    rows = read_manifest(tmp_path / f"{split}.csv")
    assert len(rows) == utterances
    assert len({row.speaker for row in rows}) == speakers
    assert sum(row.duration for row in rows) / 60 == pytest.approx(minutes, rel=0.02)
    assert all(row.text for row in rows)


def test_without_normalization_the_anchor_labels_of_speech_collapse(tmp_path):
    """The quantizer is BEST-RQ's: unit norms, one codebook."""
    prepare_librispeech(CORPORA / "so762", ["dev"], tmp_path)
    reader = AudioReader(16000)
    wavs = [reader(row.wav) for row in read_manifest(tmp_path / "dev.csv")[:12]]
    frontend = FrontEnd(stack=4)
    codebook = Codebook(
        num_codebooks=1, num_codes=512, code_dim=16, l2_normalize=True, seed=0
    )
    quantizer = RandomProjectionQuantizer(
        input_dim=frontend.output_dim, codebook=codebook, seed=1
    )
    mels = [frontend.fbank(wav[None])[0] for wav in wavs]
    raw = [mel[: len(mel) // 4 * 4].reshape(-1, frontend.output_dim) for mel in mels]
    frames = [frontend(wav[None], torch.ones(1)).frames[0] for wav in wavs]
    collapsed, alive = (
        code_usage(quantizer(torch.cat(each)), num_codes=512) for each in (raw, frames)
    )
    assert alive.perplexity > 3 * collapsed.perplexity
    assert alive.top_share < 0.2 < collapsed.top_share
