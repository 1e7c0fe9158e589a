"""Which language a text is in: a label, never a reason to leave a mail out."""

from __future__ import annotations

import re

MIN_WORDS = 6  # below this the guess is wrong too often
_SAMPLE = 2000  # characters that are looked at

# A word; in scripts without spaces, a character.
_WORD = re.compile("[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff]|[^\\W\\d_]+")
_ADDRESS = re.compile(r"\S+@\S+|https?://\S+|www\.\S+")


def identify(text: str) -> str:
    """Return the ISO 639-1 code of the text's language, "" where it is too short to tell."""
    sample = _ADDRESS.sub(" ", text[:_SAMPLE])
    if len(_WORD.findall(sample)) < MIN_WORDS:
        return ""
    import py3langid  # loading it takes half a second, and a status needs it not

    return str(py3langid.classify(sample)[0])
