"""Files of a model of transformers: config, weights, code, and what reads audio."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from speechbrain_birq import __version__
from speechbrain_birq.checkpoints import files
from speechbrain_birq.decoding.tokens import BLANK, CharacterTokens
from speechbrain_birq.inference.export.finished_run import FinishedRun
from speechbrain_birq.inference.export.loading import CONFIG, WEIGHTS

CODE = "modeling_birq.py"
PROCESSOR = "Wav2Vec2Processor"  # transformers' feature extractor and tokenizer
DELIMITER = "|"  # transformers' character for a space


def write_transformers(run: FinishedRun, folder: Path) -> None:
    """Write config, weights, ``modeling_birq.py`` and the settings of the audio.

    Raises
    ------
    OSError
        If a file cannot be written.
    """
    write_config(run, folder)
    write_weights(run, folder)
    files.write(folder / CODE, Path(__file__).with_name(CODE).read_text("utf-8"))
    settings: dict[str, Any] = {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "feature_size": 1,
        "sampling_rate": run.sample_rate,
        "padding_side": "right",
        "padding_value": 0.0,
        "do_normalize": False,
        "return_attention_mask": True,
    }
    if has_tokenizer(run):
        settings["processor_class"] = PROCESSOR
    write_json(folder / "preprocessor_config.json", settings)
    if has_tokenizer(run):
        _write_tokenizer(run, folder)


def write_config(run: FinishedRun, folder: Path) -> None:
    """Write ``config.json``."""
    module, frontend = Path(CODE).stem, run.features.frontend
    classes = {"AutoConfig": "BiRQConfig", "AutoModel": "BiRQModel"}
    if run.head is not None:
        classes["AutoModelForCTC"] = "BiRQForCTC"
    config = {
        "model_type": "birq",
        "architectures": [list(classes.values())[-1]],
        "auto_map": {auto: f"{module}.{name}" for auto, name in classes.items()},
        "architecture": run.architecture,
        "trust": list(run.trust),
        "hidden_size": run.features.output_dim,
        "num_hidden_layers": run.features.encoder.num_layers,
        "sampling_rate": run.sample_rate,
        "inputs_to_logits_ratio": frontend.hop_samples * frontend.stack,
        "dtype": "float32",
        "speechbrain_birq_version": __version__,
    }
    if run.tokens is not None:
        config |= {"vocab_size": len(run.tokens), "pad_token_id": 0}
    write_json(folder / CONFIG, config)


def write_weights(run: FinishedRun, folder: Path) -> None:
    """Write ``model.safetensors``, with the names that the weights have in the code."""
    if (folder / WEIGHTS).exists():  # two formats may share them
        return
    parts: dict[str, torch.nn.Module] = {"features": run.features}
    if run.head is not None:
        parts = {"birq.features": run.features, "lm_head": run.head}
    tensors = {
        f"{part}.{name}": value.contiguous()
        for part, module in parts.items()
        for name, value in module.state_dict().items()
    }
    try:
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    except SafetensorError as error:  # it has no number of its own for a full disk
        raise OSError(None, str(error), str(folder / WEIGHTS)) from error


def write_json(path: Path, content: Any) -> None:
    """Write a file of JSON."""
    files.write(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def has_tokenizer(run: FinishedRun) -> bool:
    """Say whether a tokenizer of transformers has the run's tokens: characters only."""
    tokens = run.tokens
    return isinstance(tokens, CharacterTokens) and DELIMITER not in tokens.index


def _write_tokenizer(run, folder):
    names = [DELIMITER if t == " " else t for t in run.tokens.vocabulary]
    write_json(folder / "vocab.json", {name: i for i, name in enumerate(names)})
    settings = {
        "tokenizer_class": "Wav2Vec2CTCTokenizer",
        "processor_class": PROCESSOR,
        "pad_token": BLANK,
        "unk_token": BLANK,
        "bos_token": None,
        "eos_token": None,
        "word_delimiter_token": DELIMITER,
        "do_lower_case": False,
    }
    write_json(folder / "tokenizer_config.json", settings)
