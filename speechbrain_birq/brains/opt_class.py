"""Make the optimizer that ``opt_class`` names, or say why it cannot be had."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from speechbrain_birq.config.tree import one_line
from speechbrain_birq.errors import BadInput, from_user_code, out_of_memory

# They are made without complaint, but could not make a single step.
UNFIT = {
    torch.optim.LBFGS: "it computes the loss several times for a step",
    torch.optim.SparseAdam: "it takes sparse gradients only",
}


@contextmanager
def opt_class_named(brain: Any) -> Iterator[None]:
    """Turn what an optimizer says of its arguments into one sentence.

    ``!name:`` is called when the training starts, so loading the YAML finds no wrong
    argument.

    Arguments
    ---------
    brain : SumBrain
        Its ``optimizer`` is made inside.

    Raises
    ------
    BadInput
        If the optimizer does not take its arguments, or cannot be used here. Errors of
        a user's own class stay as they are.
    """
    try:
        yield
    except (
        *(AttributeError, LookupError, TypeError, ValueError),
        RuntimeError,  # a fused optimizer refuses a device
    ) as error:
        if from_user_code(error) or out_of_memory(error):
            raise
        raise BadInput(
            f"opt_class: {_name(brain.opt_class)} does not take its arguments "
            f"({one_line(error)}): correct them in its line of the YAML"
        ) from error
    for kind, reason in UNFIT.items():
        if isinstance(getattr(brain, "optimizer", None), kind):
            raise BadInput(
                f"opt_class: {kind.__name__} cannot train here, because {reason}: take "
                f"another optimizer"
            )


def _name(opt_class):
    made = getattr(opt_class, "func", opt_class)  # a partial, if it has arguments
    return getattr(made, "__name__", str(made))
