"""When the quantizers are fitted, and to which speech."""

import logging
from collections.abc import Callable, Iterable, Iterator

import torch
from speechbrain.utils.distributed import ddp_broadcast, if_main_process
from torch.nn.utils.rnn import pad_sequence

from speechbrain_birq.config.keys import ABOVE_0, COUNT_OR_0
from speechbrain_birq.errors import BadInput, from_user_code
from speechbrain_birq.models.birq import BiRQ
from speechbrain_birq.models.encoders.valid_batch_norm import Statistics, statistics
from speechbrain_birq.models.frontend import Frames

logger = logging.getLogger(__name__)

Speech = Callable[[], Iterator[torch.Tensor]]


class LabelFitting:
    """Fits a model's quantizers to a sample of the training speech.

    Quantizers that are fitted (see ``FittedQuantizer``) are fitted before the first
    step. That of layer k is fitted again and again while the layers below it learn.
    The number of fits is in the checkpoint, so a resumed run fits when the
    uninterrupted one did.

    Arguments
    ---------
    seconds : float
        Speech in the sample.
    batch_seconds : float
        Speech that is encoded at once, without its padding.
    refit_steps : int
        Optimizer steps from fit to fit of the enhanced quantizer; 0: it is fitted once.

    Raises
    ------
    ValueError
        If the seconds are no numbers above 0, or the steps no whole number from 0.
    """

    def __init__(
        self, *, seconds: float, batch_seconds: float, refit_steps: int = 0
    ) -> None:
        ABOVE_0.check("LabelFitting", seconds=seconds, batch_seconds=batch_seconds)
        COUNT_OR_0.check("LabelFitting", refit_steps=refit_steps)
        self.seconds, self.batch_seconds = seconds, batch_seconds
        self.refit_steps = refit_steps

    def __call__(
        self, model: BiRQ, step: int, speech: Speech, *, enhanced: bool = True
    ) -> None:
        """Fit what is due at an optimizer step; every rank gets what rank 0 finds.

        Arguments
        ---------
        model : BiRQ
        step : int
        speech : callable
            Returns an iterator of waveforms (S,) of the training split.
        enhanced : bool
            Whether enhanced labels are in use; if not, their quantizer is not fitted.
        """
        kinds = self._due(model, step, enhanced)
        if not kinds:
            return
        if if_main_process():
            self._fit(model, kinds, speech())
        for name in (*kinds.values(), "label_norm"):
            part = getattr(model, name)
            # On the CPU: other ranks would unpickle them on the first one's GPU.
            state = {key: value.cpu() for key, value in part.state_dict().items()}
            part.load_state_dict(ddp_broadcast(state))

    def _due(self, model, step, enhanced):
        times = {"anchor": 1}
        if enhanced:
            refits = step // self.refit_steps if self.refit_steps else 0
            times["enhanced"] = 1 + refits
        names = {kind: f"{kind}_quantizer" for kind in times}
        quantizers = {kind: getattr(model, name) for kind, name in names.items()}
        return {
            kind: names[kind]
            for kind, quantizer in quantizers.items()
            if quantizer.fittable and quantizer.times_fitted < times[kind]
        }

    def _fit(self, model, kinds, signals):
        device, frontend = next(model.parameters()).device, model.frontend
        rate, one_frame = frontend.sample_rate, frontend.hop_samples * frontend.stack
        signals = (signal for signal in signals if len(signal) >= one_frame)
        sample = first(signals, self.seconds * rate)
        found = {kind: [] for kind in kinds}
        for wavs, wav_lens in batches(sample, self.batch_seconds * rate):
            wavs, wav_lens = wavs.to(device), wav_lens.to(device)
            for kind, frames in quantizer_inputs(model, kinds, wavs, wav_lens).items():
                found[kind].append(frames)
        for kind, name in kinds.items():
            frames = torch.cat(found[kind] or [torch.empty(0, 1)])
            try:
                refuse_equal(frames)
                getattr(model, name).fit(frames)
            except ValueError as error:
                if from_user_code(error):
                    raise
                raise BadInput(
                    f"the {kind} labels: {error}: raise fit_seconds, lower num_codes, "
                    f"or take more speech"
                ) from error
            logger.info("fitted the %s quantizer to %d frames", kind, len(frames))


def refuse_equal(frames: torch.Tensor) -> None:
    """Refuse frames (M, D) to which nothing can be fitted, those of silence.

    Raises
    ------
    ValueError
        If all of them are the same.

    Example
    -------
    >>> refuse_equal(torch.zeros(3, 2))
    Traceback (most recent call last):
    ValueError: the frames do not differ
    """
    # Here and not in the quantizer, whose fit does not synchronize with the GPU.
    if len(frames) > 1 and (frames == frames[0]).all():
        raise ValueError("the frames do not differ")


def first(signals: Iterable[torch.Tensor], samples: float) -> Iterator[torch.Tensor]:
    """Yield signals until so many samples are reached.

    Example
    -------
    >>> [len(signal) for signal in first([torch.ones(4)] * 9, 7)]
    [4, 4]
    """
    for signal in signals:
        yield signal
        samples -= len(signal)
        if samples <= 0:
            return


def batches(
    signals: Iterable[torch.Tensor], samples: float
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield padded batches of at most so many samples, or of one longer signal.

    Arguments
    ---------
    signals : iterable
        Waveforms (S,).
    samples : float
        Samples in a batch, without padding.

    Returns
    -------
    iterator
        (B, S) waveforms and (B,) relative lengths.

    Example
    -------
    >>> signals = [torch.ones(4), torch.ones(2), torch.ones(6)]
    >>> [(tuple(wavs.shape), lens.tolist()) for wavs, lens in batches(signals, 7)]
    [((2, 4), [1.0, 0.5]), ((1, 6), [1.0])]
    """
    batch: list[torch.Tensor] = []
    for signal in signals:
        if batch and sum(map(len, batch)) + len(signal) > samples:
            yield _padded(batch)
            batch = []
        batch.append(signal)
    if batch:
        yield _padded(batch)


def _padded(signals):
    lengths = torch.tensor([len(signal) for signal in signals])
    return pad_sequence(signals, batch_first=True), lengths / lengths.max()


@torch.no_grad()
def quantizer_inputs(
    model: BiRQ, kinds: Iterable[str], wavs: torch.Tensor, wav_lens: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Return what quantizers see at the valid frames.

    It is what they see in training (batch statistics, dropout), but the random state
    and the encoder are left as they were. Other ranks need not take part.

    Arguments
    ---------
    model : BiRQ
    kinds : iterable
        ``anchor``, ``enhanced`` or both.
    wavs : torch.Tensor
        (B, S)
    wav_lens : torch.Tensor
        (B,) relative lengths.

    Returns
    -------
    dict
        ``anchor``: (M, D), ``enhanced``: (M, H).
    """
    devices = [wavs.device] if wavs.is_cuda else []
    alone = statistics(Statistics(summed=False, followed=False))
    with torch.random.fork_rng(devices), alone:
        clean: Frames = model.frontend(wavs, wav_lens)
        inputs = {"anchor": lambda: clean.frames}
        inputs["enhanced"] = lambda: model.label_states(clean)
        return {kind: inputs[kind]()[clean.valid] for kind in kinds}
