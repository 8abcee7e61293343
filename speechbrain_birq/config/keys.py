"""What the values of a YAML file's keys may be."""

from datetime import date

from speechbrain_birq.errors import BadInput

# What the keys take, wherever they are written; of other keys, the YAML's value tells.
TAKES = {
    "a whole number above 0": """attention_window beam_size chunk_max chunk_min
        code_dim d_ffn d_model
        grad_accumulation_factor keep_checkpoints kernel_size log_interval n_mels nhead
        num_codebooks num_codes num_layers num_tokens number_of_epochs sample_rate stack
        test_chunk_size total_steps""",
    "a whole number from 0": """anchor_ramp_steps ckpt_interval_steps
        enhanced_ramp_steps freeze_steps freq_drop_length freq_drops fresh_layers
        left_chunks_max left_chunks_min nonfinite_patience num_workers
        optimizer_step_limit refit_steps seed test_left_chunks time_drop_length
        time_drops warmup_steps""",
    "a whole number": "data_parallel_count label_layer",  # the model knows its layers
    "a number above 0": """batch_seconds fit_seconds lr mask_length_ms max_eval_seconds
        normalize_seconds temperature""",
    "a number from 0": """anchor_weight_value cache_audio_gb chunk_prob
        ckpt_interval_minutes collapse_perplexity dropout enhanced_weight_value
        head_dropout hold_epochs left_chunks_prob lm_alpha lm_beta lr_encoder
        mask_noise_std mask_prob max_seconds min_seconds warmup_epochs weight_decay""",
    "a number": "max_grad_norm",  # SpeechBrain: negative switches clipping off
    "a text": """anchor_codes anchor_projection decoding enhanced_codes
        enhanced_projection label_norm normalize precision tokens train_split
        valid_split""",
    "a path": "data_folder lm_path output_folder pretrained stored_labels",
    "a list of texts": "test_splits trust",
    "True or False": """activation_checkpointing l2_normalize label_gradient label_noise
        shared_head tensorboard""",
}
KIND = {key: kind for kind, keys in TAKES.items() for key in keys.split()}
MAY_BE_NULL = frozenset(
    """
    attention_window lm_path optimizer_step_limit pretrained stored_labels
    test_chunk_size test_left_chunks
    """.split()
)


def fitted(key, value, old, where):
    """The value as its key takes it: a path written 5 is a text, one text is a list.

    Arguments
    ---------
    key : str
    value : object
        Of YAML; with a tag such as ``!ref`` it is left alone.
    old : object
        What the file has: its kind counts for keys that the table lacks.
    where : str or Path
        Is told to the user.

    Raises
    ------
    BadInput
        If the key takes something else.

    Example
    -------
    >>> fitted("test_splits", "dev", [], "the command line")
    ['dev']
    """
    if tag_of(value) or (value is None and key in MAY_BE_NULL):
        return value
    kind = KIND.get(key) or _kind(old)
    if kind == "a path" and (_is_number(value) or isinstance(value, date)):
        value = str(value)
    if kind == "a list of texts" and isinstance(value, str):
        value = [value]
    if kind and not _fits(value, kind):
        raise BadInput(f"{where}: {key} takes {kind}, got {value!r}")
    return value


def _kind(value):
    """Of a key that is not in the table: numbers stay numbers, texts texts."""
    if isinstance(value, bool):
        return "True or False"
    if _is_number(value):
        return "a number"
    return "a text" if isinstance(value, str) and not tag_of(value) else None


def _fits(value, kind):
    if kind == "True or False":
        return isinstance(value, bool)
    if "list" in kind:
        return isinstance(value, list) and all(isinstance(v, str) for v in value)
    if "number" not in kind:
        return isinstance(value, str)
    if not _is_number(value) or ("whole" in kind and not isinstance(value, int)):
        return False
    return value > 0 if "above 0" in kind else value >= 0 or "from 0" not in kind


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def tag_of(node) -> str:
    """``!ref`` and the like, or nothing."""
    return getattr(getattr(node, "tag", None), "value", None) or ""
