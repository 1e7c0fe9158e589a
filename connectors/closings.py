"""Closings ("Best regards,") and the names below them, in many languages."""

# ruff: noqa: RUF001 - letters and marks of many scripts are meant as they stand

from __future__ import annotations

import re

_LONGEST = 80  # characters of a closing
_MOST_WORDS = 4  # of a name

_CLOSING = re.compile(
    r"(?:(?:all|my|many|with|mit|vielen|herzlichen|muchas|molte|mille|un|une|en) )*"
    r"(?:best|kind|kindest|warm|warmest|regards|cheers|thanks|thank you|sincerely|yours|love|xo+"
    r"|take care|talk soon|speak soon|see you|respectfully|cordially|ciao|tschüss|servus|baba"
    r"|(?:viele|liebe|beste|schöne|herzliche|freundliche[nm]?|sonnige) gr(?:ü|ue)(?:ß|ss)en?"
    r"|gr(?:ü|ue)(?:ß|ss)e?|lg|vg|mfg|bg|alles liebe|danke|dank|hochachtungsvoll|bis bald"
    r"|cordialement|bien à (?:vous|toi)|amicalement|bises|merci|à bientôt|salutations|amitiés"
    r"|saludos|abrazos?|gracias|atentamente|cordialmente|saluti|cordiali saluti|distinti saluti"
    r"|grazie|a presto|abraço|abraços|obrigad[oa]|atenciosamente|cumprimentos"
    r"|pozdrawiam|pozdrowienia"
    r"|(?:met )?(?:vriendelijke|hartelijke) groet(?:en)?|groet(?:en|jes)?|mvg|bedankt"
    r"|(?:med )?vänliga? hälsning(?:ar)?|hälsningar|mvh|(?:med )?venlig hilsen|hilsen|terveisin"
    r"|s pozdravem|üdvözlettel|saygılarımla|с уважением|з повагою)"
    r"(?!\w)[^.!?:@\d]{0,40}[,.!]*",
    re.IGNORECASE,
)
_NAME_WORD = re.compile(r"[^\W\d_][\w.'’-]*,?")
_PARTICLE = re.compile(r"al|and|bin|d[aeiu]|dos|de[lnr]|el?|i|ibn|l[ae]|und|v[ao]n|y")


def is_closing(line: str) -> bool:
    """Tell whether a line is a closing, with or without a name behind it: "Cheers, Jen"."""
    return len(line) <= _LONGEST and bool(_CLOSING.fullmatch(line.strip()))


def is_name(line: str, *, signed: bool = False) -> bool:
    """Tell whether somebody can sign with this line: a few capitalised words, and no closing.

    Args:
        line: The line.
        signed: It stands where a name stands, below a closing, so small letters do as well.
    """
    words = line[: _LONGEST + 1].split()
    if not 1 <= len(words) <= _MOST_WORDS or is_closing(line):
        return False
    return all(
        _NAME_WORD.fullmatch(word)
        and (signed or word[0].isupper() or _PARTICLE.fullmatch(word) is not None)
        for word in words
    )
