"""What every format is made of: the weights of a run, and what describes them."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from speechbrain_birq.checkpoints.published import find_run
from speechbrain_birq.checkpoints.run_folder import (
    architecture_text,
    best_checkpoint,
    load_architecture,
    load_weights,
)
from speechbrain_birq.decoding.tokens import Tokens, is_finetuned, load_tokens
from speechbrain_birq.inference.speech_features import SpeechFeatures


@dataclass(frozen=True)
class FinishedRun:
    """A run folder that has been read.

    Arguments
    ---------
    folder : Path
    architecture : str
        YAML of front end and encoder.
    features : SpeechFeatures
    head : torch.nn.Linear or None
        Output layer of a fine-tuned run, H to V.
    tokens : Tokens or None
        V tokens of a fine-tuned run.
    trust : tuple of str
        Further packages whose classes the architecture names.
    """

    folder: Path
    architecture: str
    features: SpeechFeatures
    head: torch.nn.Linear | None
    tokens: Tokens | None
    trust: tuple[str, ...]

    @classmethod
    def read(cls, folder: str | Path, trust: Iterable[str] = ()) -> "FinishedRun":
        """Read a run folder without running code of it.

        Raises
        ------
        BadInput
            If the folder is no run or its weights do not fit.
        """
        trust, folder = tuple(trust), find_run(folder)
        parts, checkpoint = load_architecture(folder, trust), best_checkpoint(folder)
        load_weights(parts, folder, checkpoint)
        head = tokens = None
        if is_finetuned(folder):
            tokens = load_tokens(folder)
            head = torch.nn.Linear(parts["encoder"].output_dim, len(tokens))
            load_weights({"head": head}, folder, checkpoint)
        text = architecture_text(folder, trust)
        features = SpeechFeatures(**parts)
        return cls(folder, text, features, head, tokens, trust)

    @property
    def sample_rate(self) -> int:
        """Rate of the waveforms, in Hz."""
        return self.features.frontend.sample_rate
