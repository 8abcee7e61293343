"""Global statistics of the features: estimated by one rank, equal on all."""

import logging

from speechbrain.utils.distributed import ddp_broadcast, if_main_process

from speechbrain_birq.brains.base import NOTHING_READ
from speechbrain_birq.brains.label_fitting import Speech
from speechbrain_birq.errors import BadInput, from_user_code
from speechbrain_birq.models.frontend import FrontEnd

logger = logging.getLogger(__name__)


def estimate_statistics(frontend: FrontEnd, speech: Speech, seconds: float) -> None:
    """Estimate mean and variance of the features; every rank gets those of rank 0.

    Arguments
    ---------
    frontend : FrontEnd
        With ``normalize="global"``.
    speech : callable
        Returns an iterator of waveforms (S,) of the training split.
    seconds : float
        Speech to read, at most.

    Raises
    ------
    BadInput
        If no speech could be read.
    """
    if if_main_process():
        try:
            frontend.estimate(speech(), seconds)
        except ValueError as error:
            if from_user_code(error):
                raise
            raise BadInput(NOTHING_READ % "training") from error
    statistics = frontend.statistics
    assert statistics is not None  # "global" has them
    statistics.load_state_dict(ddp_broadcast(statistics.state_dict()))
    logger.info("estimated mean and variance on %d frames", statistics.num_frames)
