"""Global statistics of the features are rank 0's."""

import pytest
import torch
from small_brains import no_speech
from small_runs import assert_equal

from speechbrain_birq.brains import feature_statistics
from speechbrain_birq.brains.feature_statistics import estimate_statistics
from speechbrain_birq.errors import BadInput
from speechbrain_birq.models.frontend import FrontEnd


def front_end():
    return FrontEnd(n_mels=20, normalize="global")


def test_statistics_are_estimated_on_so_many_seconds():
    signals = [torch.randn(16000), torch.randn(16000)]
    frontend, expected = front_end(), front_end()
    estimate_statistics(frontend, lambda: iter(signals), seconds=1)
    expected.estimate(signals, 1)
    assert_equal(frontend.state_dict(), expected.state_dict())


def test_another_rank_takes_those_of_the_first_and_reads_no_audio(monkeypatch):
    sent, mine = front_end(), front_end()
    sent.estimate([torch.randn(16000)], seconds=1)
    monkeypatch.setattr(feature_statistics, "if_main_process", lambda: False)
    monkeypatch.setattr(
        feature_statistics, "ddp_broadcast", lambda _: sent.statistics.state_dict()
    )
    estimate_statistics(mine, no_speech, seconds=1)
    assert_equal(mine.state_dict(), sent.state_dict())


def test_statistics_of_nothing_are_refused():
    with pytest.raises(BadInput, match="training split"):
        estimate_statistics(front_end(), lambda: iter(()), seconds=1)
