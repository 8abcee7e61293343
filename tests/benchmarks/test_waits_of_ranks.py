"""What the ranks agree on in every step does not wait for the device."""

import math
import signal
import time

import pytest
import torch
import torch.distributed as dist
import waits
from small_brains import UNEQUAL, Nowhere, batch_of, feed
from speechbrain.utils.run_opts import RunOptions

from speechbrain_birq.distributed import LargestOfRanks

FUSED = dict(opt_class=lambda p: torch.optim.AdamW(p, lr=0.01, fused=True))
OPTIONS = {"distributed_backend": "gloo", "device": "cpu", "ckpt_interval_minutes": 4}


@pytest.fixture
def one_rank(monkeypatch):
    """A group of one rank, in this process."""
    for name in ("RANK", "LOCAL_RANK"):
        monkeypatch.setenv(name, "0")
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.fixture
def ranked(one_rank, make_brain):
    """A Brain of one rank whose answers are late, as those of a GPU."""
    options = RunOptions.from_dictionary(OPTIONS)
    brain = make_brain(run_opts=options, log_interval=100, **FUSED)
    brain.checkpointer = Nowhere()
    brain.checkpointer.save_and_keep_only = lambda **_: None
    brain.largest_of_ranks.late = True
    return brain


def asked(brain):
    return brain._should_save_intra_epoch_ckpt(time.time(), steps_since_ckpt=1)


def test_a_step_of_ranks_reads_only_the_late_answer(ranked):
    feed(ranked, batch_of(*UNEQUAL))
    asked(ranked)
    with waits.counted() as found:
        feed(ranked, batch_of(*UNEQUAL))
        asked(ranked)
    (((_, line), times),) = found.items()
    assert "largest.tolist()" in line and times == 1
    assert ranked.optimizer_step == 2


def test_answers_of_a_gpu_are_those_of_the_call_before(one_rank):
    largest = LargestOfRanks("cpu")
    assert largest(3, 0) == [3, 0]
    largest.late = True
    assert [largest(n, 5) for n in (1, 2, 3)] == [[0, 0], [1, 5], [2, 5]]
    largest.forget()
    assert largest(4, 5) == [0, 0]


def test_a_due_checkpoint_is_saved_once_though_the_answer_is_late(ranked, monkeypatch):
    feed(ranked, batch_of(*UNEQUAL))
    now = ranked.saved_at + 5 * 60
    monkeypatch.setattr(time, "monotonic", lambda: now)
    assert [asked(ranked), asked(ranked)] == [False, True]
    ranked.save({})
    assert [asked(ranked), asked(ranked), asked(ranked)] == [False] * 3


def test_a_signal_ends_the_run_after_the_next_step(ranked):
    feed(ranked, batch_of(*UNEQUAL))
    ranked.interruption.signal = signal.SIGTERM
    assert not asked(ranked)
    with pytest.raises(SystemExit) as ended:
        asked(ranked)
    assert ended.value.code == 128 + signal.SIGTERM


def test_a_step_without_a_batch_of_any_rank_is_none(ranked):
    (loss,) = feed(ranked, None)
    assert math.isnan(loss) and ranked.optimizer_step == 0
    feed(ranked, batch_of(*UNEQUAL))
    assert ranked.optimizer_step == 1


def test_a_batch_whose_texts_do_not_fit_makes_a_step_as_in_one_process(
    one_rank, make_ctc
):
    brain = make_ctc(distributed_backend="gloo")
    brain.pending_ids, brain.num_items = ["utterance-1"], torch.zeros(())
    assert brain._any_batch()
