"""Pretraining: the inner label-selector step and the outer encoder step."""

import math
import zlib
from collections.abc import Mapping
from typing import Any

import speechbrain as sb
import torch
from speechbrain.dataio.batch import PaddedBatch

from speechbrain_birq.brains.base import NOTHING_READ, SumBrain
from speechbrain_birq.brains.label_fitting import Speech
from speechbrain_birq.brains.label_report import LabelReport, warn_of_collapse
from speechbrain_birq.brains.memory import memory_told
from speechbrain_birq.brains.report_line import LEGEND
from speechbrain_birq.brains.skipped_steps import refuse_divergence
from speechbrain_birq.data.pipeline import MaskItem
from speechbrain_birq.errors import BadInput
from speechbrain_birq.models.objectives import Objective, penalty_sum


class BiRQBrain(SumBrain):
    """Trains ``modules.model`` (a ``BiRQ``); with enhanced weight 0 it is BEST-RQ.

    Further ``hparams``: ``enhanced_weight`` and ``anchor_weight`` (``Ramp``: w₁, w₂),
    ``label_fitting`` (``LabelFitting``), ``log_interval``, ``collapse_perplexity``.

    Arguments
    ---------
    *args, **kwargs
        Those of ``speechbrain.Brain``.
    masks : MaskItem
        Draws the masks of the training split; ``set_epoch`` is called for each epoch.
    speech : callable
        Returns an iterator of the training split's waveforms (S,), which quantizers
        are fitted to.

    Raises
    ------
    BadInput
        If the model has label terms although the enhanced weight is 0.
    """

    def __init__(
        self,
        *args: Any,
        masks: MaskItem,
        speech: Speech,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.masks, self.speech = masks, speech
        weight = self.hparams.enhanced_weight
        self.enhanced = max(weight.value, weight(0)) > 0  # it may fall to 0
        if not self.enhanced and len(self.model.label_terms):
            raise BadInput(
                "enhanced_weight_value 0 (BEST-RQ) has no use for label_terms, because "
                "there are no enhanced labels: set it above 0, or label_terms to []"
            )
        if not self.enhanced and not self.model.heads.shared:
            # DDP waits for the gradient of every trainable parameter.
            self.model.heads.enhanced.requires_grad_(False)
        self.legend = LEGEND.format(math.log(self.model.heads.shape[1]))
        self.reports = {sb.Stage.TRAIN: self._report(), sb.Stage.VALID: self._report()}

    def _report(self):
        num_codebooks, num_codes = self.model.heads.shape
        return LabelReport(
            num_codebooks=num_codebooks,
            num_codes=num_codes,
            enhanced=self.enhanced,
            device=self.device,
        )

    @memory_told("max_seconds")
    def fit_batch(self, batch: PaddedBatch | None) -> torch.Tensor:
        """Run Algorithm 1 on a micro-batch: labels, F and G, then w₁ F + w₂ G.

        Arguments
        ---------
        batch : PaddedBatch or None
            None where no audio of the batch could be read.

        Returns
        -------
        torch.Tensor
            Detached loss per masked frame, on the device.
        """
        if not self.pending_ids:  # between two steps
            self.hparams.label_fitting(
                *(self.model, self.optimizer_step, self.speech), enhanced=self.enhanced
            )
        with self.accumulation():
            if batch is None:
                return self.backward_silence()
            objective = self.inner_step(batch)
            loss = self.outer_step(objective, batch)
        return loss

    def inner_step(self, batch: PaddedBatch) -> Objective:
        """Label the clean input with layers 1..k (label selector); compute F and G."""
        with self.training_ctx:
            return self.compute_forward(batch, sb.Stage.TRAIN)

    def outer_step(self, objective: Objective, batch: PaddedBatch) -> torch.Tensor:
        """Backpropagate w₁ F + w₂ G, summed over the masked frames, to the encoder."""
        loss = self.compute_objectives(objective, batch, sb.Stage.TRAIN)
        self.accumulate(loss, objective.num_frames, batch)
        return loss.detach() / objective.num_frames.clamp_min(1)

    def compute_forward(self, batch: PaddedBatch, stage: sb.Stage) -> Objective:
        """Return the objective of a batch: F, G and what the labels were."""
        # Counted on the CPU: the model would synchronize with the GPU to count them.
        num_masked = int(batch.mask.data.sum())
        batch = batch.to(self.device, non_blocking=True)
        stored = batch.targets.data if hasattr(batch, "targets") else None
        inputs = (*batch.sig, batch.mask.data, self.enhanced, stored, num_masked)
        if stage == sb.Stage.TRAIN:
            return self.modules.model(*inputs, generator=self.generator)
        # Noise follows the batch, whichever rank it falls to. DDP would wait, because
        # in validation ranks have different numbers of batches.
        seed = zlib.crc32(" ".join(batch.id).encode())
        noise = torch.Generator(self.device).manual_seed(seed)
        return self.model(*inputs, generator=noise)

    def compute_objectives(
        self, objective: Objective, batch: PaddedBatch, stage: sb.Stage
    ) -> torch.Tensor:
        """Return w₁ F + w₂ G, summed over the masked frames; report it."""
        # Only in validation: a report of training has too few frames of a speaker.
        speakers = getattr(batch, "speaker_name", None)
        self.reports[stage].add(objective, batch.mask, speakers)
        return penalty_sum(objective, *self.weights(self.optimizer_step))

    def weights(self, step: int) -> tuple[float, float]:
        """Return w₁ and w₂ at an optimizer step."""
        return self.hparams.enhanced_weight(step), self.hparams.anchor_weight(step)

    def loss_of_silence(
        self, wavs: torch.Tensor, wav_lens: torch.Tensor
    ) -> torch.Tensor:
        """Return the loss of one silent frame that is not masked: 0."""
        mask = torch.zeros(1, 1, dtype=torch.bool, device=self.device)
        objective = self.modules.model(
            wavs, wav_lens, mask, self.enhanced, generator=self.generator
        )
        return penalty_sum(objective, 1.0, 1.0)

    def optimizers_step(self) -> None:
        """Step; report every ``log_interval`` steps and after the first."""
        super().optimizers_step()
        if self.at_log_interval():
            self._report_training()

    def _report_training(self):
        report, step = self.reports[sb.Stage.TRAIN], self.optimizer_step
        figures = report.figures(*self.weights(step - 1))  # of the step just made
        figures["grad_norm"] = self.grad_norm.item()
        figures["lr"] = self.optimizer.param_groups[0]["lr"]
        self.report("train", step, figures | report.speed())
        warn_of_collapse(figures, self.hparams.collapse_perplexity)
        report.reset()

    def on_stage_start(self, stage: sb.Stage, epoch: int | None = None) -> None:
        """Let the masks of training follow the epoch; begin a report of validation."""
        if stage == sb.Stage.TRAIN:
            assert epoch is not None  # SpeechBrain passes it in training
            self.masks.set_epoch(epoch)
        else:
            self.reports[stage].reset()

    def on_stage_end(
        self, stage: sb.Stage, stage_loss: float, epoch: int | None = None
    ) -> None:
        """Report validation, save a checkpoint."""
        if stage == sb.Stage.TRAIN:
            return
        report = self.reports[stage]
        if report.is_empty():
            raise BadInput(NOTHING_READ % "validation")
        figures = report.figures(*self.weights(self.optimizer_step))
        self.report("valid", self.optimizer_step, figures)
        refuse_divergence(self.model, figures["loss"], self.optimizer_step)
        self.save({"loss": figures["loss"], "step": self.optimizer_step})

    def rank_state(self) -> dict[str, Any]:
        """Add what was not reported yet."""
        report = self.reports[sb.Stage.TRAIN].state_dict()
        return super().rank_state() | {"report": report}

    def set_rank_state(self, state: Mapping[str, Any], end_of_epoch: bool) -> None:
        """Restore ``rank_state``."""
        super().set_rank_state(state, end_of_epoch)
        if "report" in state:  # unlike in a checkpoint of the layout before the rooms
            self.reports[sb.Stage.TRAIN].load_state_dict(state["report"])
