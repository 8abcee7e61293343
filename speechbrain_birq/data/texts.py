"""Clean-up of transcripts: their case, and characters that they lose."""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

logger = logging.getLogger(__name__)


class TextCleaning(NamedTuple):
    """What happens to every transcript of a run.

    Arguments
    ---------
    case : str
        ``upper``, ``lower`` or ``keep``.
    drop : str
        Characters that are removed before the case changes.

    Example
    -------
    >>> TextCleaning("upper", ".,")("No, it - isn't.")
    "NO IT - ISN'T"
    """

    case: str = "keep"
    drop: str = ""

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "TextCleaning":
        """Return that of a run, from the keys of its YAML."""
        return cls(
            settings.get("text_case", "keep"), settings.get("drop_characters", "")
        )

    def __call__(self, text: str) -> str:
        """Return the text as it is trained on."""
        if not self.active:
            return text
        text = text.translate(dict.fromkeys(map(ord, self.drop)))
        if self.case == "upper":
            text = text.upper()
        elif self.case == "lower":
            text = text.lower()
        return " ".join(text.split())

    @property
    def active(self) -> bool:
        """Whether it changes anything."""
        return self != TextCleaning()

    def report(self, split: str, texts: Iterable[str]) -> None:
        """Log how many of the original texts of a split change, and what they lose."""
        total, changed, emptied, dropped = 0, 0, 0, Counter[str]()
        for text in texts:
            clean = self(text)
            total += 1
            changed += clean != text
            emptied += not clean
            dropped.update(mark for mark in text if mark in self.drop)
        marks = ", ".join(f"{mark!r} {count}" for mark, count in dropped.most_common())
        logger.info(
            "the split %r: %d of %d texts changed (case: %s; dropped characters: %s)%s",
            *(split, changed, total, self.case, marks or "none"),
            f"; {emptied} are empty now and not used" if emptied else "",
        )
