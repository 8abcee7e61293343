"""The table of keys: what each one takes, who reads it, and when it may change."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple


class Kind(NamedTuple):
    """What the values of a key have in common."""

    words: str  # for messages and the page of keys
    fits: Callable[[Any], bool]
    literal: bool = False  # a text, which the command line gives to the letter

    def check(self, part: str, **arguments: Any) -> None:
        """Refuse arguments of a part that do not fit.

        Raises
        ------
        ValueError
            Naming the first of them.

        Example
        -------
        >>> FROM_0.check("a Ramp", value=0.5, steps="abc")
        Traceback (most recent call last):
        ValueError: steps of a Ramp must be a number from 0, got 'abc'
        """
        for name, value in arguments.items():
            if not self.fits(value):
                raise ValueError(
                    f"{name} of {part} must be {self.words}, got {value!r}"
                )


class Key(NamedTuple):
    """One row of the table."""

    kind: Kind
    scripts: tuple[str, ...] = ()  # whose code reads it; else only references do
    optional: bool = False  # the scripts run without it
    null: bool = False  # null is a value of it
    resume: bool = False  # a resumed run may have another value
    machine: bool = False  # machines of one run may have different values


def is_number(value: object) -> bool:
    """Return whether a value is a finite number.

    Example
    -------
    >>> [is_number(value) for value in (1, 0.5, True, "1", math.inf, math.nan)]
    [True, True, False, False, False, False]
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return isinstance(value, int) or math.isfinite(value)


def _number(words: str, accepts: Callable[[Any], bool] = lambda v: True) -> Kind:
    return Kind(words, lambda value: is_number(value) and accepts(value))


def _whole(words: str, accepts: Callable[[Any], bool] = lambda v: True) -> Kind:
    return Kind(words, lambda v: is_number(v) and isinstance(v, int) and accepts(v))


def _one_of(*texts: str) -> Kind:
    words = f"{', '.join(texts[:-1])} or {texts[-1]}"
    return Kind(words, lambda v: isinstance(v, str) and v in texts, literal=True)


COUNT = _whole("a whole number above 0", lambda v: v > 0)
COUNT_OR_0 = _whole("a whole number from 0", lambda v: v >= 0)
WORKERS = _whole("a whole number from 0 to 256", lambda v: 0 <= v <= 256)
# Beyond, SpeechBrain would silently take seed 0.
SEED = _whole("a whole number from 0 to 4294967295", lambda v: 0 <= v < 2**32)
WHOLE = _whole("a whole number")
ABOVE_0 = _number("a number above 0", lambda v: v > 0)
FROM_0 = _number("a number from 0", lambda v: v >= 0)
# Beyond, float32 overflows: every step would be skipped.
WEIGHT = _number("a number from 0 to 1000000", lambda v: 0 <= v <= 10**6)
PART_OF_1 = _number("a number above 0, at most 1", lambda v: 0 < v <= 1)
SHARE = _number("a number from 0 to 1", lambda v: 0 <= v <= 1)
SHARE_BELOW_1 = _number("a number from 0, below 1", lambda v: 0 <= v < 1)
NUMBER = _number("a number")
FLAG = Kind("True or False", lambda v: isinstance(v, bool))
LAYERS_AGAIN = Kind(
    "True, False, or a whole number from 0",
    lambda v: isinstance(v, bool) or COUNT_OR_0.fits(v),
)
TEXT = Kind("a text", lambda v: isinstance(v, str), literal=True)
CASE = _one_of("upper", "lower", "keep")
TOKENS = _one_of("characters", "sentencepiece")
DECODING = _one_of("greedy", "beam")
PROJECTION = _one_of("random", "pca", "whitened_pca")
CODES = _one_of("random", "centroids")
PATH = Kind("a path", lambda v: isinstance(v, str), literal=True)
TEXTS = Kind(
    "a list of texts",
    lambda v: isinstance(v, list) and all(isinstance(text, str) for text in v),
)
# Its class checks it; a list or a mapping may hold several.
PART = Kind("a part", lambda v: isinstance(v, (dict, list)))

ARCHITECTURE = ("frontend", "encoder")  # keys of what one run takes of another

PRETRAIN, FINETUNE = ("pretrain",), ("finetune",)
BOTH = (*PRETRAIN, *FINETUNE)

# A new key is a line of the YAML, an argument of a constructor, and a row here.
KEYS = {
    # Data
    "data_folder": Key(PATH, BOTH, null=True, resume=True, machine=True),
    "output_folder": Key(PATH, BOTH, resume=True, machine=True),
    "pretrained": Key(PATH, BOTH, optional=True, null=True),
    "new_labels": Key(FLAG, PRETRAIN, optional=True),
    "new_tokens": Key(FLAG, FINETUNE, optional=True),
    "trust": Key(TEXTS, BOTH, optional=True, resume=True),
    "train_split": Key(TEXT, BOTH),
    "valid_split": Key(TEXT, BOTH),
    "test_splits": Key(TEXTS, FINETUNE, resume=True),
    "min_seconds": Key(FROM_0, BOTH),
    "max_seconds": Key(FROM_0, BOTH),
    "max_eval_seconds": Key(ABOVE_0, BOTH, resume=True),
    "batch_seconds": Key(ABOVE_0, BOTH, resume=True),
    "num_workers": Key(WORKERS, BOTH, resume=True, machine=True),
    "cache_audio_gb": Key(FROM_0, BOTH, resume=True, machine=True),
    # Tokens and decoding
    "text_case": Key(CASE, FINETUNE, optional=True),
    "drop_characters": Key(TEXT, FINETUNE, optional=True),
    "tokens": Key(TOKENS, FINETUNE),
    "num_tokens": Key(COUNT, FINETUNE),
    "decoding": Key(DECODING, FINETUNE, resume=True),
    "beam_size": Key(COUNT, FINETUNE, resume=True),
    "lm_path": Key(PATH, FINETUNE, null=True, resume=True),
    "lm_alpha": Key(FROM_0, FINETUNE, resume=True),
    "lm_beta": Key(FROM_0, FINETUNE, resume=True),
    # Features
    "sample_rate": Key(COUNT),
    "n_mels": Key(COUNT),
    "stack": Key(COUNT),
    "normalize": Key(TEXT),
    "normalize_seconds": Key(ABOVE_0, BOTH),
    "seed": Key(SEED, BOTH),
    # Encoder
    "encoder_kind": Key(TEXT),
    "num_layers": Key(COUNT),
    "d_model": Key(COUNT),
    "nhead": Key(COUNT),
    "d_ffn": Key(COUNT),
    "kernel_size": Key(COUNT),
    "attention_window": Key(COUNT, null=True),
    "activation_checkpointing": Key(LAYERS_AGAIN),
    "dropout": Key(SHARE_BELOW_1, FINETUNE),
    # Chunks
    "chunk_prob": Key(SHARE),
    "chunk_min": Key(COUNT),
    "chunk_max": Key(COUNT),
    "left_chunks_prob": Key(SHARE),
    "left_chunks_min": Key(COUNT_OR_0),
    "left_chunks_max": Key(COUNT_OR_0),
    "test_chunk_size": Key(COUNT, FINETUNE, null=True, resume=True),
    "test_left_chunks": Key(COUNT_OR_0, FINETUNE, null=True, resume=True),
    # Labels
    "label_layer": Key(WHOLE),  # the model knows how many layers it has
    "label_norm": Key(TEXT),
    "label_gradient": Key(FLAG),
    "label_noise": Key(FLAG),
    "temperature": Key(ABOVE_0),
    "num_codebooks": Key(COUNT),
    "num_codes": Key(COUNT),
    "code_dim": Key(COUNT),
    "l2_normalize": Key(FLAG),
    "shared_head": Key(FLAG),
    "anchor_projection": Key(PROJECTION),
    "anchor_codes": Key(CODES),
    "enhanced_projection": Key(PROJECTION),
    "enhanced_codes": Key(CODES),
    "fit_seconds": Key(ABOVE_0),
    "refit_steps": Key(COUNT_OR_0),
    "stored_labels": Key(PATH, PRETRAIN, optional=True, null=True),
    # Masks
    "mask_prob": Key(PART_OF_1),
    "mask_length_ms": Key(ABOVE_0),
    "mask_noise_std": Key(FROM_0),
    # SpecAugment
    "time_drops": Key(COUNT_OR_0),
    "time_drop_length": Key(COUNT_OR_0),
    "freq_drops": Key(COUNT_OR_0),
    "freq_drop_length": Key(COUNT_OR_0),
    "head_dropout": Key(SHARE_BELOW_1),
    # Objective
    "enhanced_weight_value": Key(WEIGHT),
    "enhanced_ramp_steps": Key(COUNT_OR_0),
    "anchor_weight_value": Key(WEIGHT),
    "anchor_ramp_steps": Key(COUNT_OR_0),
    # Training
    "number_of_epochs": Key(COUNT, resume=True),
    "optimizer_step_limit": Key(COUNT_OR_0, null=True, resume=True),
    "lr": Key(ABOVE_0),
    "lr_encoder": Key(FROM_0, FINETUNE),
    "fresh_layers": Key(COUNT_OR_0, FINETUNE),
    "freeze_steps": Key(COUNT_OR_0, FINETUNE),
    "warmup_steps": Key(COUNT_OR_0),
    "total_steps": Key(COUNT, resume=True),
    "warmup_epochs": Key(FROM_0),
    "hold_epochs": Key(FROM_0),
    "weight_decay": Key(FROM_0),
    "max_grad_norm": Key(NUMBER),  # SpeechBrain: negative switches clipping off
    "grad_accumulation_factor": Key(COUNT, resume=True),
    "precision": Key(TEXT, resume=True),
    "nonfinite_patience": Key(COUNT_OR_0, resume=True),
    "ckpt_interval_minutes": Key(FROM_0, resume=True),
    "ckpt_interval_steps": Key(COUNT_OR_0, resume=True),
    "keep_checkpoints": Key(COUNT, BOTH, resume=True),
    "data_parallel_count": Key(WHOLE),
    # Logs
    "log_interval": Key(COUNT, PRETRAIN, resume=True),
    "collapse_perplexity": Key(FROM_0, PRETRAIN, resume=True),
    "tensorboard": Key(FLAG, resume=True),
    # Objects
    "frontend": Key(PART, BOTH),
    "encoder": Key(PART, BOTH),
    "label_terms": Key(PART),
    "label_fitting": Key(PART, PRETRAIN),
    "masking": Key(PART, PRETRAIN),
    "augment": Key(PART, FINETUNE, null=True),
    "chunking": Key(PART, FINETUNE, null=True),
    "model": Key(PART, FINETUNE),
    "modules": Key(PART, PRETRAIN),
    "brain_class": Key(PART, BOTH),
    "opt_class": Key(PART, BOTH),
    "lr_schedule": Key(PART, BOTH),
    "enhanced_weight": Key(PART, PRETRAIN),
    "anchor_weight": Key(PART, PRETRAIN),
    "epoch_counter": Key(PART, BOTH),
    "checkpointer": Key(PART, BOTH, resume=True, machine=True),
    "train_logger": Key(
        PART, BOTH, optional=True, null=True, resume=True, machine=True
    ),
    "run_log": Key(PART, BOTH, resume=True, machine=True),
}
MAY_CHANGE = frozenset(name for name, key in KEYS.items() if key.resume)
PER_MACHINE = frozenset(name for name, key in KEYS.items() if key.machine)
READ = frozenset(name for name, key in KEYS.items() if key.scripts)
