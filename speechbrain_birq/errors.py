"""A user's mistake, told in one sentence."""

import sys
from functools import wraps


class BadInput(Exception):
    """What is wrong, where, and what to do: shown to the user as it is."""


def one_sentence(main):
    """Let ``main`` end with the sentence of a ``BadInput`` and exit status 2.

    Ctrl-C ends with a sentence, too, and with a shell's status for it, 130.

    Example
    -------
    >>> @one_sentence
    ... def main():
    ...     raise BadInput("no folder /x: give an existing one with --data_folder")
    >>> main()
    Traceback (most recent call last):
    SystemExit: 2
    """

    @wraps(main)
    def wrapped(*args, **kwargs):
        try:
            return main(*args, **kwargs)
        except BadInput as error:
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(2) from None
        except KeyboardInterrupt:
            print("\nstopped by Ctrl-C: what is finished stays", file=sys.stderr)
            raise SystemExit(130) from None

    return wrapped
