"""Pretraining: the inner label-selector step and the outer encoder step."""

import logging
import math
import time
import zlib

import speechbrain as sb
import torch

from speechbrain_birq.brains.base import NOTHING_READ, SumBrain
from speechbrain_birq.brains.memory import memory_told
from speechbrain_birq.distributed import gathered, total
from speechbrain_birq.errors import BadInput
from speechbrain_birq.metrics.codebook import (
    agreement,
    code_usage,
    mutual_information,
)
from speechbrain_birq.models.objectives import Objective, penalty_sum

logger = logging.getLogger(__name__)


class BiRQBrain(SumBrain):
    """Trains ``modules.model`` (a ``BiRQ``); with enhanced weight 0 it is BEST-RQ.

    Further ``hparams``: ``enhanced_weight`` and ``anchor_weight`` (``Ramp``: w₁, w₂),
    ``label_fitting`` (``LabelFitting``), ``collapse_perplexity``, ``mask_epoch``
    (shared with the mask items) and, for validation, what ``SumBrain`` needs.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.noise = self.generator
        self.enhanced = self.hparams.enhanced_weight.value > 0
        if not self.enhanced and not self.model.heads.shared:
            # DDP waits for the gradient of every trainable parameter.
            self.model.heads.enhanced.requires_grad_(False)
        self.recent, self.frames, self.started = [], [0, 0], time.time()

    def fit_batch(self, batch):
        """Algorithm 1: labels, F and G, then one step on w₁ F + w₂ G."""
        if not self.pending_ids:
            self.hparams.label_fitting(self.model, self.optimizer_step)
        return super().fit_batch(batch)

    def optimizers_step(self):
        """Step; report every ``log_interval`` steps and after the first."""
        super().optimizers_step()
        made = self.optimizer_step
        if made == 1 or made % self.hparams.log_interval == 0:
            self._report_training()

    def backward_batch(self, batch):
        """One micro-batch of the single loop."""
        objective = self.inner_step(batch)
        return self.outer_step(objective, batch)

    def inner_step(self, batch) -> Objective:
        """Label selector: layers 1..k label the clean input; F and G follow."""
        with self.training_ctx:
            return self.compute_forward(batch, sb.Stage.TRAIN)

    def outer_step(self, objective: Objective, batch):
        """Encoder: gradient of w₁ F + w₂ G over the masked frames."""
        loss = penalty_sum(objective, *self.weights(self.optimizer_step))
        self.accumulate(loss, objective.num_frames, batch)
        self._remember(objective, batch)
        return loss.detach() / objective.num_frames.clamp_min(1)

    def backward_nothing(self):
        """One silent frame, not masked."""
        frontend = self.model.frontend
        samples = frontend.hop_samples * frontend.stack
        silence = torch.zeros(1, samples, device=self.device)
        mask = torch.zeros(1, 1, dtype=torch.bool, device=self.device)
        with self.training_ctx:
            ones = torch.ones(1, device=self.device)
            objective = self.modules.model(
                silence, ones, mask, self.enhanced, generator=self.noise
            )
        self.scaler.scale(penalty_sum(objective, 1.0, 1.0)).backward()

    def weights(self, step) -> tuple[float, float]:
        """w₁, w₂ at an optimiser step."""
        return self.hparams.enhanced_weight(step), self.hparams.anchor_weight(step)

    def compute_forward(self, batch, stage):
        """Objective of a batch."""
        wavs, wav_lens = batch.sig
        stored = batch.targets.data if hasattr(batch, "targets") else None
        # In validation ranks have different numbers of batches: DDP would wait.
        model = self.modules.model if stage == sb.Stage.TRAIN else self.model
        mask = batch.mask.data
        return model(wavs, wav_lens, mask, self.enhanced, stored, self.noise)

    @memory_told("max_eval_seconds")
    def evaluate_batch(self, batch, stage):
        """Remember the sums of a validation batch."""
        if batch is None:
            return torch.tensor(math.nan)
        # Noise follows the batch, whichever rank it falls to.
        self.noise.manual_seed(zlib.crc32(" ".join(batch.id).encode()))
        with self.evaluation_ctx:
            objective = self.compute_forward(batch.to(self.device), stage)
        self._remember(objective, batch)
        loss = penalty_sum(objective, *self.weights(self.optimizer_step))
        return (loss / objective.num_frames.clamp_min(1)).cpu()

    def on_stage_start(self, stage, epoch=None):
        """Let masks follow the epoch; validate with the same noise every time."""
        if stage == sb.Stage.TRAIN:
            self.hparams.mask_epoch.fill_(epoch)
            return
        self._kept = self.recent, self.frames, self.started
        self._forget()
        self.noise = torch.Generator(self.device)

    def on_stage_end(self, stage, stage_loss, epoch=None):
        """Report validation, save a checkpoint."""
        if stage == sb.Stage.TRAIN:
            return
        if not any(gathered(bool(self.recent))):
            raise BadInput(NOTHING_READ % "validation")
        figures = self._figures(self.optimizer_step)
        self.hparams.run_log.report("valid", self.optimizer_step, figures)
        self.recent, self.frames, self.started = self._kept
        self.noise = self.generator
        self.save({"loss": figures["loss"], "step": self.optimizer_step})

    def rank_state(self):
        """Besides: what was not reported yet."""
        return super().rank_state() | {
            "recent": [tuple(value.cpu() for value in o) for o in self.recent],
            "frames": (float(self.frames[0]), self.frames[1]),
            "elapsed": time.time() - self.started,
        }

    def set_rank_state(self, state, end_of_epoch):
        """Restore ``rank_state``."""
        super().set_rank_state(state, end_of_epoch)
        self.started = time.time() - state["elapsed"]
        self.recent = [
            Objective(*(value.to(self.device) for value in values))
            for values in state["recent"]
        ]
        self.frames = list(state["frames"])

    def _remember(self, objective, batch):
        detached = (value.detach() for value in objective)
        self.recent.append(Objective(*detached))
        mask, lens = batch.mask
        # Still on the device: only a report fetches them.
        self.frames[0] = self.frames[0] + (lens * mask.shape[1]).sum()
        self.frames[1] += mask.numel()

    def _forget(self):
        self.recent, self.frames, self.started = [], [0, 0], time.time()

    def _report_training(self):
        step = self.optimizer_step - 1  # the one that was just made
        figures = self._figures(step)
        figures["grad_norm"] = self.grad_norm.item()
        figures["lr"] = self.optimizer.param_groups[0]["lr"]
        elapsed = max(1e-9, time.time() - self.started)
        frames = gathered((float(self.frames[0]), self.frames[1]))
        valid, padded = (sum(column) for column in zip(*frames, strict=True))
        figures["frames_per_second"] = valid / elapsed
        figures["padding"] = 1 - valid / padded
        self.hparams.run_log.report("train", step, figures)
        self._warn_of_collapse(figures)
        self._forget()

    def _figures(self, step):
        """Means per masked frame and the usage of both label sets, off the device."""
        sums = self._sums()
        num_codes = self.model.heads.shape[1]
        frames = sums["num_frames"] or math.nan  # none was finite
        w_enhanced, w_anchor = self.weights(step)
        figures = {"G": sums["anchor_loss"] / frames}
        figures["anchor_accuracy"] = sums["anchor_correct"] / frames
        codes = self._codes("anchor_codes")
        figures |= _named("anchor", code_usage(codes, num_codes))
        upper = 0.0
        if self.enhanced:
            upper = figures["F"] = sums["enhanced_loss"] / frames
            figures["enhanced_accuracy"] = sums["enhanced_correct"] / frames
            enhanced = self._codes("enhanced_codes")
            figures |= _named("enhanced", code_usage(enhanced, num_codes))
            figures["agreement"] = agreement(codes, enhanced)
            figures["mutual_information"] = mutual_information(codes, enhanced)
        figures["loss"] = w_enhanced * upper + w_anchor * figures["G"]
        return figures

    def _codes(self, name):
        """(M, G) of all ranks."""
        none = torch.zeros(0, self.model.heads.shape[0], dtype=torch.long)
        mine = [none, *(getattr(o, name).cpu() for o in self.recent)]
        return torch.cat(gathered(torch.cat(mine)))

    def _sums(self):
        """Of the losses and counts of all ranks."""
        names = Objective._fields[:5]
        sums = torch.zeros(len(names), dtype=torch.double, device=self.device)
        for objective in self.recent:
            values = [getattr(objective, name).double().mean() for name in names]
            values = torch.stack(values)
            # A batch whose step was skipped, if it was for this, enters no mean.
            sums += torch.where(torch.isfinite(values).all(), values, 0.0)
        return dict(zip(names, total(sums).tolist(), strict=True))

    def _warn_of_collapse(self, figures):
        for kind in ("anchor", "enhanced"):
            perplexity = figures.get(f"{kind}_perplexity", math.inf)
            if perplexity < self.hparams.collapse_perplexity:
                logger.warning(
                    "COLLAPSE: the %s labels have a perplexity of %.1f (threshold %g): "
                    "a falling F means nothing now. %s",
                    kind,
                    perplexity,
                    self.hparams.collapse_perplexity,
                    REMEDY[kind],
                )


REMEDY = {
    "anchor": "Look for silent or constant recordings, or set l2_normalize: True.",
    "enhanced": "Set label_gradient: False, label_norm: channel, shared_head: False.",
}


def _named(kind, usage):
    return {f"{kind}_{name}": value for name, value in usage._asdict().items()}
