"""The command line: a YAML file, SpeechBrain's run options, values of keys."""

from collections.abc import Iterable
from typing import Any

from speechbrain.utils.run_opts import RunOptions

from speechbrain_birq.config.checks import COMMAND_LINE, Given, checked_value
from speechbrain_birq.config.keys import KEYS, TEXT
from speechbrain_birq.errors import BadInput

OPTIONS = RunOptions().as_dict()
FLAGS = frozenset(name for name, value in OPTIONS.items() if value is False)
LISTS = ("jit_module_keys", "compile_module_keys")
# SpeechBrain's options that these Brains cannot honor -> what to do instead.
REFUSED = {
    "jit": "give --compile to make training faster",
    "jit_module_keys": "give --compile to make training faster",
    "compile_module_keys": "--compile compiles the encoder, the part that gains",
    "data_parallel_backend": "start torchrun --nproc-per-node N for several GPUs",
}


def parse_arguments(argv: Iterable[str]) -> tuple[str, RunOptions, dict[str, Any]]:
    """Split a command line.

    Arguments
    ---------
    argv : iterable
        As ``sys.argv[1:]``: ``--key value`` or ``--key=value``.

    Returns
    -------
    str, RunOptions, dict
        YAML file, SpeechBrain's run options, values of the YAML's keys: as they stand,
        or read where SpeechBrain has an option of that name.

    Raises
    ------
    BadInput
        If a value is missing, a key is given twice, or an option cannot be used.

    Example
    -------
    >>> argv = ["x.yaml", "--precision", "bf16", "--optimizer_step_limit=9", "--seed=1"]
    >>> path, options, overrides = parse_arguments(argv)
    >>> path, options.precision, options.optimizer_step_limit, overrides
    ('x.yaml', 'bf16', 9, {'seed': '1', 'precision': 'bf16', 'optimizer_step_limit': 9})
    """
    words, options, overrides = list(argv), [], {}
    files = []
    while words:
        word = words.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--"):
            files.append(word)
        elif name in FLAGS or name in ("help", *LISTS):
            options.append(word)
            while name in LISTS and words and not words[0].startswith("--"):
                words.pop(0)
        else:
            if not equals:
                value = _next_value(name, words)
            if name in overrides:
                raise BadInput(f"{COMMAND_LINE}: the key {name!r} is given twice")
            overrides[name] = Given(value)
    values = {name: overrides.pop(name) for name in [*overrides] if name in OPTIONS}
    options += [
        f"--{name}={value}"
        for name, value in values.items()
        if name not in KEYS or KEYS[name].kind == TEXT
    ]
    run_options = _run_options(options, values)
    # Options that are keys, too, belong to what describes the run.
    overrides |= {name: run_options[name] for name in values if name in KEYS}
    return _path(files, options), run_options, overrides


def _next_value(name, words):
    if not words or words[0].startswith("--"):
        raise BadInput(f"{COMMAND_LINE}: --{name} needs a value")
    return words.pop(0)


def _path(files, options):
    if len(files) > 1:
        raise BadInput(
            f"{COMMAND_LINE}: {files[1]!r} follows no --key (the YAML file is "
            f"{files[0]!r})"
        )
    if not files and "--help" not in options:
        raise BadInput(
            f"{COMMAND_LINE}: give a YAML file, or the name of one, such as birq_tiny"
        )
    return files[0] if files else ""


def _run_options(options, values):
    for name in REFUSED:
        if any(option.partition("=")[0] == f"--{name}" for option in options):
            raise BadInput(
                f"{COMMAND_LINE}: --{name} does not work here: {REFUSED[name]}"
            )
    checked = {
        name: checked_value(name, value, OPTIONS[name], COMMAND_LINE)
        for name, value in values.items()
        if name in KEYS
    }
    _, parsed, _ = RunOptions.from_command_line_args(["x.yaml", *options])
    found = {name: parsed[name] for name in parsed.overridden_args} | checked
    return RunOptions.from_dictionary(found)
