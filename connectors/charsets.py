"""Bytes to text, whatever the label on them says; never an error.

Labels are the names of RFC 2978 in theory. In practice they are missing, misspelled, made up, or
wrong, so the label is only the first guess: see `decode`.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from functools import lru_cache

_ALIASES = {
    # WHATWG's rule, which all mail clients share: these labels mean windows-1252.
    "ascii": "cp1252",
    "us-ascii": "cp1252",
    "iso-8859-1": "cp1252",
    "latin-1": "cp1252",
    "latin1": "cp1252",
    "ansi": "cp1252",
    # Supersets, since senders label by the subset and write the superset.
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "x-gbk": "gb18030",
    "ks_c_5601-1987": "cp949",
    "ks_c_5601": "cp949",
    "euc-kr": "cp949",
    "shift_jis": "cp932",
    "sjis": "cp932",
    "x-sjis": "cp932",
    "iso-8859-8-i": "iso-8859-8",
    "iso-8859-9": "cp1254",
    # Misspellings that are common enough to be known.
    "uft-8": "utf-8",
    "utf": "utf-8",
    "utf8mb4": "utf-8",
    "unicode": "utf-8",
    "unicode-1-1-utf-8": "utf-8",
    "x-utf-8": "utf-8",
    "x-mac-roman": "mac-roman",
    "macintosh": "mac-roman",
}
_CODE_PAGE = re.compile(r"(?:x-)?(?:cp|win|windows|ibm|dos|ms)[-_ ]?(\d{3,5})")
# Text encodings of Python that no mail is in; some take quadratic time.
_REFUSED = frozenset(
    {"idna", "punycode", "raw-unicode-escape", "unicode-escape", "undefined", "mbcs", "oem"}
)
# Labels under which printable ASCII says what it seems to say; UTF-7 and ISO-2022 are none.
_SEVEN_BIT = frozenset({"", "utf-8", "us-ascii", "iso-8859-1", "iso-8859-15", "windows-1252"})
_SAMPLE = 32 * 1024  # bytes that charset-normalizer looks at; its time grows with this
_TELLING = 64  # bytes; of fewer it tells nothing, and a header may have thousands of such words
_NOISE = re.compile(
    # Control characters, soft hyphen, zero width space, byte order mark, lone surrogates, and
    # the tag block, which carries text that no reader sees; marks of direction, which clients put
    # around names in right-to-left text, and others to show a text that is not there.
    "[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069"
    "\ufeff\ud800-\udfff\U000e0000-\U000e007f]"
)
_LINE_BREAK = re.compile("\r\n|\r|\x0c|\u2028|\u2029")
# A letter and the marks behind it, in short runs: normalising takes quadratic time in their length.
_COMPOSABLE = re.compile("[^\n][^\x00-\u02ff]{1,64}")
_SPACE = re.compile("[\xa0\u2000-\u200a\u202f\u205f]")
_PLAIN = re.compile(rb"[\t\n -~]*")
# All that `clean` may change: whatever is matched by one of the patterns above.
_UNCLEAN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\xa0\xad\u0300-\U0010ffff]")


@lru_cache(maxsize=64)
def codec(label: str) -> str | None:
    """Return the name of Python's codec for a charset label, or None if there is none."""
    name = label.strip(" \t\r\n\"'").lower()
    name = _ALIASES.get(name, name)
    if page := _CODE_PAGE.fullmatch(name):
        name = f"cp{page[1]}"
    try:
        found = codecs.lookup(name).name
        b"a".decode(found, "replace")
    except (LookupError, ValueError):  # no such codec, or one that makes no text, such as zlib
        return None
    return None if found in _REFUSED else found


def decode(data: bytes, label: str = "") -> str:
    """Decode bytes by their label, else as UTF-8, else by guess, else as Latin-1; then `clean`.

    A label is believed when all bytes, or nearly all of a text cut short, agree with it. ASCII and
    Latin-1 are the labels of clients that know no better, so UTF-8 is tried before them.
    """
    if _PLAIN.fullmatch(data) and label.lower() in _SEVEN_BIT:
        return data.decode("ascii")  # what most fields and many texts are
    declared = codec(label)
    order = ["utf-8", declared] if declared in {None, "cp1252"} else [declared, "utf-8"]
    for name in order:
        if name is not None and (text := _strictly(data, name)) is not None:
            return clean(text)
    if declared is not None and (text := _nearly(data, declared)) is not None:
        return clean(text)
    return clean(data.decode(_guess(data), "replace"))


def clean(text: str) -> str:
    """Return text with LF line ends, plain spaces, composed letters and nothing unprintable."""
    plain = text.replace("\r\n", "\n")
    if not _UNCLEAN.search(plain):
        return plain
    text = _NOISE.sub("", _SPACE.sub(" ", _LINE_BREAK.sub("\n", text)))
    return _COMPOSABLE.sub(lambda run: unicodedata.normalize("NFC", run[0]), text)


def _strictly(data: bytes, name: str) -> str | None:
    try:
        return data.decode(name)
    except ValueError:  # UnicodeDecodeError is one; some codecs raise the plain one
        return None


def _nearly(data: bytes, name: str) -> str | None:
    """Decode with a few bytes wrong: one per ten characters outside ASCII, and one more."""
    text = data.decode(name, "replace")
    wrong = text.count("\ufffd")
    foreign = len(text) - len(text.encode("ascii", "ignore")) - wrong
    return text if wrong <= 1 + foreign // 10 else None


def _guess(data: bytes) -> str:
    if len(data) < _TELLING:
        return "cp1252"
    # Imported here: it costs start-up time, and nearly no mail needs it.
    from charset_normalizer import from_bytes

    best = from_bytes(data[:_SAMPLE]).best()
    return (codec(best.encoding) if best is not None else None) or "latin-1"
