"""Tokens of a fine-tuning: one rank makes them, the others receive them."""

import os

import pytest
import sentencepiece
import torch.distributed as dist
from gloo_ranks import on_two_ranks

from speechbrain_birq.data.manifest import Utterance, write_manifest
from speechbrain_birq.decoding.texts import run_tokens
from speechbrain_birq.models.frontend import FrontEnd

pytestmark = [pytest.mark.faults, pytest.mark.slow]

TEXTS = ["BAKO LIMTER", "SUNDA PRENOR", "KOLIM TERBA", "NORSUN DAPRE"]
HPARAMS = dict(
    train_split="train",
    valid_split="train",
    test_splits=[],
    tokens="sentencepiece",
    num_tokens=25,
)


def work(rank, folder):
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}  # as torchrun does
    where = f"file://{folder}/rendezvous"
    dist.init_process_group("gloo", init_method=where, rank=rank, world_size=2)
    train = sentencepiece.SentencePieceTrainer.train

    def counted(**options):
        (folder / f"made_by_{rank}").touch()
        return train(**options)

    sentencepiece.SentencePieceTrainer.train = counted
    manifests = {"train": folder / "train.csv"}
    tokens = run_tokens(HPARAMS, folder / "run", manifests, FrontEnd())
    numbers = tokens.encode(TEXTS[0]).tolist()
    assert tokens.decode(numbers) == TEXTS[0]
    (folder / f"numbers_{rank}").write_text(str(numbers))
    dist.destroy_process_group()


def test_the_first_rank_alone_makes_sentencepiece_tokens(tmp_path):
    (tmp_path / "run").mkdir()
    rows = [Utterance(f"u{n}", 9.0, "a.wav", "s", text) for n, text in enumerate(TEXTS)]
    write_manifest(tmp_path / "train.csv", rows)
    on_two_ranks(work, tmp_path)
    assert [path.name for path in tmp_path.glob("made_by_*")] == ["made_by_0"]
    first, second = ((tmp_path / f"numbers_{rank}").read_text() for rank in (0, 1))
    assert first == second
