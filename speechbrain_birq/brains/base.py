"""The optimizer step that all brains share: sums in, one division, one clipping."""

import logging
import math
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import speechbrain as sb
import torch
import torch.distributed as dist
from speechbrain.dataio.batch import PaddedBatch
from speechbrain.utils.distributed import if_main_process

from speechbrain_birq.brains.interruption import Interruption, stop
from speechbrain_birq.brains.memory import memory_told
from speechbrain_birq.brains.opt_class import opt_class_named
from speechbrain_birq.brains.progress import Progress, planned_steps
from speechbrain_birq.brains.report_line import report_line
from speechbrain_birq.brains.schedules import SpeechBrainSchedule, is_speechbrains
from speechbrain_birq.brains.skipped_steps import SkippedSteps, step_if_finite
from speechbrain_birq.checkpoints.rank_states import (
    RankStates,
    random_states,
    set_random_states,
)
from speechbrain_birq.distributed import LargestOfRanks, check_same, gathered, total
from speechbrain_birq.errors import BadInput
from speechbrain_birq.models.encoders.valid_batch_norm import (
    Statistics,
    has_batch_norm,
    statistics,
)

logger = logging.getLogger(__name__)

# Of the loss in fp16: 30 overflows in a row. After 149 more it would be 0, and the
# weights NaN.
SMALLEST_SCALE = 2**-14
NOTHING_READ = (
    "no utterance of the %s split could be read: log.txt names the files, replace them "
    "or take another split"
)


class SumBrain(sb.Brain):
    """A Brain whose losses are sums over items (masked frames, target tokens).

    Micro-batches backpropagate sums. Before a step the gradients are divided by the
    number of items over all ranks and micro-batches, then all parameter groups are
    clipped together: any split of a batch gives the same step. A micro-batch left over
    at the end of an epoch makes a step of its own. A rank that has no batch, because
    none of it could be read or the others have one more, takes part in the step with a
    gradient of 0.

    A step whose gradient is not finite is skipped as a whole, on every rank. The device
    decides that. The host names and counts skipped steps once per log interval, at the
    end of an epoch and before a checkpoint, because reading a value in every step would
    synchronize with the device in every step.

    ``hparams`` holds ``lr_schedule`` (step, epochs -> factor; or one of SpeechBrain's),
    ``epoch_counter``, ``run_log``, ``keep_checkpoints``, ``seed`` and, if wanted,
    ``log_interval`` (in steps, by default 100) and SpeechBrain's ``train_logger``. A
    subclass has ``fit_batch``, ``compute_forward``, ``compute_objectives`` and
    ``loss_of_silence``.

    Arguments
    ---------
    *args, **kwargs
        Those of ``speechbrain.Brain``.
    min_keys : sequence
        Keys of a checkpoint's ``meta``; the checkpoint with the smallest value of each
        is kept, too.
    """

    def __init__(self, *args: Any, min_keys: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        rank = dist.get_rank() if dist.is_initialized() else 0
        self.generator = torch.Generator(self.device).manual_seed(
            self.hparams.seed + 1000 * rank
        )
        if rank:  # dropout of its own; the weights are drawn already
            torch.manual_seed(self.hparams.seed + rank)
        self.rank_states = RankStates(get=self.rank_state, set=self.set_rank_state)
        if self.checkpointer is not None:
            self.checkpointer.add_recoverable("ranks", self.rank_states)
        self.schedule = self.hparams.lr_schedule
        self.speechbrains_schedule = is_speechbrains(self.schedule)
        if self.speechbrains_schedule and self.checkpointer is not None:
            self.checkpointer.add_recoverable("lr_schedule", self.schedule)
        self.min_keys = min_keys
        self.log_interval = getattr(self.hparams, "log_interval", 100)
        self.interruption = Interruption()
        self.largest_of_ranks = LargestOfRanks(self.device)
        self.progress, self.legend = Progress(), ""
        # In a file, the reports say as much as a bar.
        self.noprogressbar |= not sys.stderr.isatty()
        self.nonfinite_count = 0  # steps skipped in this epoch, as far as read
        self.nonfinite_before = 0  # those of them before a recovery
        self.skipped_steps = SkippedSteps()
        self.average_loss: torch.Tensor | None = None  # of this epoch, on the device
        self.num_batches = 0
        self.num_items = self.grad_norm = torch.zeros((), device=self.device)
        self.pending_ids: list[str] = []

    def fit(self, *args: Any, **kwargs: Any) -> None:
        """Train as SpeechBrain does, with one bar for all epochs."""
        try:
            super().fit(*args, **kwargs)
        finally:
            self.progress.close()
        self.skipped_steps.refuse_all(self.optimizer_step)
        self._refuse_unsaved()

    def _refuse_unsaved(self):
        """Say that the end of the training is on no disk: the run is not finished."""
        reason = gathered(getattr(self.checkpointer, "unsaved", None))[0]
        if reason is not None:
            raise BadInput(
                f"all steps are made, but the last checkpoint could not be saved in "
                f"{self.checkpointer.checkpoints_dir} ({reason}): make room, then give "
                f"the same command to make the steps since the checkpoint before again"
            )

    def on_fit_start(self) -> None:
        """Recover from the checkpoint, if there is one."""
        self.saved_at = time.monotonic()
        check_same(self.model)  # DDP would silently take those of the first rank
        super().on_fit_start()
        check_same(self.model)
        if self.optimizer_step:
            logger.info("resumed after step %s", f"{self.optimizer_step:,}")
        if self.speechbrains_schedule:
            self.schedule = SpeechBrainSchedule(
                self.hparams.lr_schedule,
                self.optimizer.defaults["lr"],
                self.optimizer.param_groups[0],
            )
        for optimizer in self.optimizers_dict.values():
            for group in optimizer.param_groups:
                group.setdefault("initial_lr", group["lr"])

    def init_optimizers(self) -> None:
        """Make the optimizer; a wrong argument of ``opt_class`` is named."""
        with opt_class_named(self):
            super().init_optimizers()

    def _compile(self):
        """``--compile``: the encoder, for every length.

        It is one graph, but for ``block_conformer``, which is cut at its batch norms.
        The rest has shapes that depend on the masks, and draws from a generator: it
        would be cut into pieces that are compiled again and again.
        """
        if not self.compile:
            return
        encoder = self.model.encoder
        if getattr(encoder, "activation_checkpointing", 0) and has_batch_norm(encoder):
            raise BadInput(
                "torch cannot compile activation_checkpointing of an encoder with "
                "batch norm (block_conformer): leave out one of the two"
            )
        encoder.compile(mode=self.compile_mode, dynamic=True)

    def rank_state(self) -> dict[str, Any]:
        """Return what a checkpoint holds of every rank."""
        return {
            "random": random_states(self.generator),
            "grad_norm": self.grad_norm.cpu(),
            "nonfinite": self.nonfinite_before + self.nonfinite_count,
            "skipped": self.skipped_steps.total,
        }

    def set_rank_state(self, state: Mapping[str, Any], end_of_epoch: bool) -> None:
        """Restore ``rank_state``."""
        set_random_states(self.generator, state["random"])
        self.grad_norm = state["grad_norm"].to(self.device)
        self.nonfinite_before = 0 if end_of_epoch else state["nonfinite"]
        self.skipped_steps.total = state.get("skipped", 0)  # 0 in earlier versions

    @contextmanager
    def accumulation(self) -> Iterator[None]:
        """Backpropagate a micro-batch inside; step where the accumulation is complete.

        Only then do the ranks exchange their gradients.
        """
        complete = self.at_boundary()
        with self.no_sync(not complete):
            yield
        if complete and self._any_batch():
            self.optimizers_step()

    def _any_batch(self):
        """Sum the items over the ranks; return whether any had a batch for the step."""
        if not dist.is_initialized():
            return bool(self.pending_ids)
        here = torch.full_like(self.num_items, len(self.pending_ids))
        self.num_items, utterances = total(torch.stack((self.num_items, here)))
        # To read the number synchronizes with the device: only who had none must.
        return bool(self.pending_ids) or utterances.item() > 0

    def backward_silence(self) -> torch.Tensor:
        """Take part in the step of the other ranks, which wait for this one's gradient.

        A rank without data runs one silent utterance of one frame, whose loss is 0.

        Returns
        -------
        torch.Tensor
            NaN, which SpeechBrain leaves out of its running average.
        """
        if dist.is_initialized():
            frontend = self.model.frontend
            samples = frontend.hop_samples * frontend.stack
            wavs = torch.zeros(1, samples, device=self.device)
            with self.training_ctx, statistics(Statistics(counted=False)):
                loss = self.loss_of_silence(wavs, torch.ones(1, device=self.device))
            self.scaler.scale(loss).backward()
        return torch.tensor(math.nan)

    def loss_of_silence(
        self, wavs: torch.Tensor, wav_lens: torch.Tensor
    ) -> torch.Tensor:
        """Return a loss of 0 that depends on every parameter.

        Arguments
        ---------
        wavs : torch.Tensor
            (1, S) zeros.
        wav_lens : torch.Tensor
            (1,)
        """
        raise NotImplementedError

    @memory_told("max_eval_seconds")
    def evaluate_batch(
        self, batch: PaddedBatch | None, stage: sb.Stage
    ) -> torch.Tensor:
        """Evaluate as SpeechBrain does; skip a batch of which nothing could be read."""
        if batch is None:
            return torch.tensor(math.nan)
        return super().evaluate_batch(batch, stage)

    def accumulate(
        self, loss_sum: torch.Tensor, num_items: torch.Tensor, batch: PaddedBatch
    ) -> None:
        """Add the gradient of a sum of losses over ``num_items`` items."""
        self.scaler.scale(loss_sum).backward()
        self.num_items = self.num_items + num_items
        self.pending_ids += batch.id

    def at_boundary(self) -> bool:
        """Return whether this micro-batch completes a step."""
        complete = self.step % self.grad_accumulation_factor == 0
        return complete or self.step == self.num_batches

    def optimizers_step(self) -> None:
        """Divide, clip all groups, step unless something is not finite."""
        (optimizer,) = self.optimizers_dict.values()
        self._set_learning_rates(optimizer)
        self.scaler.unscale_(optimizer)
        parameters = [p for g in optimizer.param_groups for p in g["params"]]
        self._divide(parameters)
        limit = self.max_grad_norm if self.max_grad_norm > 0 else math.inf
        self.grad_norm = torch.nn.utils.clip_grad_norm_(parameters, limit)
        if self.scaler.is_enabled():
            # fp16 finds its scale by overflowing: the data are not to blame.
            self.scaler.step(optimizer)
        else:
            finite = torch.isfinite(self.grad_norm)
            step_if_finite(optimizer, finite)
            self.skipped_steps.add(self.optimizer_step, self.pending_ids, finite)
        self.scaler.update()
        optimizer.zero_grad(set_to_none=True)
        self.num_items = torch.zeros((), device=self.device)
        self.pending_ids = []
        self.optimizer_step += 1
        self.progress.advance(self.optimizer_step)
        if self.at_log_interval():
            self.check_skipped_steps()

    def at_log_interval(self) -> bool:
        """Return whether the last step made is one after which figures are read."""
        made = self.optimizer_step
        return made == 1 or made % self.log_interval == 0

    def update_average(self, loss: torch.Tensor, avg_loss: float) -> float:
        """Average the losses as SpeechBrain does; in training, on the device.

        Returns
        -------
        float
            The average when it was last read. It is read once per log interval and at
            the end of an epoch.
        """
        if not self.modules.training:
            return super().update_average(loss, avg_loss)
        loss, before = loss.to(self.device).double(), self.average_loss
        if before is None:
            before = torch.full_like(loss, avg_loss)
        after = before - before / self.step + loss / self.step
        self.average_loss = torch.where(torch.isfinite(loss), after, before)
        last = self.step >= self.num_batches or self._optimizer_step_limit_exceeded
        if last or (self.at_boundary() and self.at_log_interval()):
            return self.average_loss.item()
        return avg_loss

    def _should_save_intra_epoch_ckpt(self, last_ckpt_time, steps_since_ckpt):
        """Save between two steps only: accumulated gradients are in no checkpoint."""
        if not self.at_boundary():
            return False
        # Not by SpeechBrain's time of the last save: if the clock was set back by a
        # day, there would be no save for a day.
        minutes = (time.monotonic() - self.saved_at) / 60
        due = if_main_process() and 0 < self.ckpt_interval_minutes < minutes
        received = int(self.interruption.signal or 0)
        received, due = self.largest_of_ranks(received, int(due))
        if received:
            self._save_intra_epoch_ckpt()
            stop(signal.Signals(received), self.optimizer_step)
        # Every rank counts the same steps.
        return bool(due) or 0 < self.ckpt_interval_steps <= steps_since_ckpt

    def _save_intra_epoch_ckpt(self):
        self.save({"step": self.optimizer_step}, end_of_epoch=False)

    def save(self, meta: dict[str, Any], end_of_epoch: bool = True) -> None:
        """Save a checkpoint; the newest ``keep_checkpoints`` and the best are kept.

        Without a checkpointer nothing is saved.
        """
        self.check_skipped_steps()
        if self.average_loss is not None:
            self.avg_train_loss = self.average_loss.item()
        if self.checkpointer is not None:
            self.checkpointer.save_and_keep_only(
                meta=meta,
                end_of_epoch=end_of_epoch,
                num_to_keep=self.hparams.keep_checkpoints,
                min_keys=self.min_keys,
            )
        self.saved_at = time.monotonic()
        self.largest_of_ranks.forget()

    def _divide(self, parameters):
        """Undo DDP's mean over the ranks, divide by the items of all ranks."""
        ranks = dist.get_world_size() if dist.is_initialized() else 1
        factor = (ranks / self.num_items.double().clamp_min(1)).float()
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.mul_(factor)

    def check_skipped_steps(self) -> None:
        """Name and count the steps skipped since the last call; all ranks call it.

        Raises
        ------
        BadInput
            If more than ``nonfinite_patience`` steps of this epoch were skipped, or, in
            fp16, so many that the scale of the loss has become tiny.
        """
        if self.scaler.is_enabled() and self.scaler.get_scale() < SMALLEST_SCALE:
            raise BadInput(
                "fp16 finds no scale with which the gradient is finite: give "
                "--precision bf16 or fp32, or a lower learning rate"
            )
        for step, ids in self.skipped_steps.read():
            self.nonfinite_count += 1 + self.nonfinite_before
            self.nonfinite_before = 0
            named = ", ".join(ids[:20])
            logger.warning(
                "skipped step %d, %d now in this epoch: the gradient is not finite; "
                "utterances: %s",
                step,
                self.nonfinite_count,
                named,
            )
            if self.nonfinite_count > self.nonfinite_patience:
                raise BadInput(
                    f"{self.nonfinite_count} steps of this epoch had a gradient that "
                    f"is not finite (nonfinite_patience {self.nonfinite_patience}), "
                    f"the last with {named}: lower the learning rate, or look at these "
                    f"recordings"
                )

    def _set_learning_rates(self, optimizer):
        factor = self.schedule(self.optimizer_step, self.epochs_done())
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor

    def report(self, stage: str, step: int, figures: Mapping[str, float]) -> None:
        """Log a line; write all figures to the run's log and to ``train_logger``."""
        if if_main_process():
            logger.info(report_line(stage, step, figures, self.progress))
        self.hparams.run_log.report(stage, step, dict(figures))
        train_logger = getattr(self.hparams, "train_logger", None)
        if train_logger is not None:
            stats = {f"{stage}_stats": dict(figures)}
            train_logger.log_stats({"step": step}, **stats, verbose=False)

    def epochs_done(self) -> float:
        """Return the number of epochs so far, the current one as a fraction."""
        current = self.hparams.epoch_counter.current
        return current - 1 + self.step / max(1, self.num_batches)

    def _fit_train(self, train_set, epoch, enable):
        if self.train_sampler is not None:
            # With shards, the number of batches depends on the epoch.
            self.train_sampler.set_epoch(epoch)
        self.num_batches = len(train_set)
        self._find_place(train_set)
        self.average_loss = None
        self.progress.begin(self.optimizer_step, self._planned_steps(epoch), enable)
        super()._fit_train(train_set, epoch, enable=False)
        self.check_skipped_steps()
        self.nonfinite_before, self.average_loss = 0, None

    def _find_place(self, train_set):
        """Skip what the epoch has heard, if other ranks than before share its batches.

        The place is that of a rank: 100 of 8 ranks are 200 of 4. What is left of a step
        is heard again.
        """
        ranks = dist.get_world_size() if dist.is_initialized() else 1
        before, self.rank_states.ranks_before = self.rank_states.ranks_before, None
        if before in (None, ranks) or self.step == 0:
            return
        place = min(self.step * before // ranks, self.num_batches)
        if place < self.num_batches:
            place -= place % self.grad_accumulation_factor
        self.step = place
        train_set._speechbrain_recovery_skip_to = place or None

    def _planned_steps(self, epoch):
        last = getattr(self.hparams.epoch_counter, "limit", epoch)
        return planned_steps(
            self.optimizer_step,
            batches_left=self.num_batches - self.step,
            batches=self.num_batches,
            epochs_left=last - epoch,
            accumulation=self.grad_accumulation_factor,
            limit=self.optimizer_step_limit,
        )

    def _fit_valid(self, valid_set, epoch, enable):
        self.progress.describe("validation")
        super()._fit_valid(valid_set, epoch, enable=False)
        self.progress.describe("")
        wanted = self.interruption.agreed(self.device)
        if wanted:
            stop(wanted, self.optimizer_step)

    @property
    def finished(self) -> bool:
        """Whether a recovered run has made all its steps and the validation after."""
        counter = self.hparams.epoch_counter
        last = counter.current >= getattr(counter, "limit", math.inf)
        return self.step == 0 and (last or self._optimizer_step_limit_exceeded)

    @property
    def model(self) -> Any:
        """The model without DDP's wrapper: a ``BiRQ``, a ``CTCModel``, one's own."""
        return getattr(self.modules.model, "module", self.modules.model)
