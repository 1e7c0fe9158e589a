"""What may not stand in a draft, whoever talked the model into it: see `Guard`.

A model can be talked into a link that carries data away, and can make one up. A draft has only
links and addresses that its owner wrote herself, in this request, in panza.yaml or in a mail
before; those of the mail she answers stand in the quotation below it. It is plain text: no HTML,
and no characters that are not seen.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

INVISIBLE = re.compile(
    # What is not seen, or makes other characters seen in another order (Unicode TR 36): nobody
    # types it. The joiners of emoji and of Persian stay, and the marks of direction alone.
    "[\u00ad\u180e\u200b\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e0fff]"
)
"""Characters that a draft does without."""

_DOT = "[.\u3002\uff0e\uff61]"  # what IDNA takes for a dot (RFC 3490, 3.1)
_LABEL = r"[^\W_](?:[\w-]{0,61}[^\W_])?"
_SCHEME = (
    r"(?:[a-z][a-z0-9+.-]{1,30}:[/\\]{2}|(?:about|bitcoin|blob|callto|cid|data|facetime|file|geo"
    r"|intent|javascript|magnet|mailto|mid|skype|sms|tel|tg|vbscript|view-source|whatsapp|xmpp):)"
)
# Mail clients make a link of a name that ends like this, without any scheme. Two letters may be the
# end of any country, but behind a single one they are an abbreviation.
_TOP = (
    r"(?:ai|app|biz|blog|chat|click|cloud|club|com|dev|edu|email|example|gov|info|int|invalid|io"
    r"|link|live|local|me|mil|mobi|mov|name|net|network|news|online|onion|org|page|pro|shop|site"
    r"|space|store|tech|test|top|tv|website|wiki|work|world|xyz|zip|xn--[a-z0-9-]+)(?![\w-])"
)
_NAME = (
    rf"(?:{_LABEL}{_DOT}){{1,8}}(?:{_TOP}|[^\W\d_]{{2,24}}(?=[:/?\#]\S))"
    rf"|(?:{_LABEL}{_DOT}){{0,7}}[^\W_][\w-]{{0,61}}[^\W_]{_DOT}(?-i:[a-z]{{2}})(?![\w-])"
)
_ADDRESS = rf"[\w.!#$%&'*+/=?^`{{|}}~-]{{1,64}}[@\uff20]{_LABEL}(?:{_DOT}{_LABEL}){{1,8}}"
_LINK = re.compile(
    rf"(?<![^\W_])(?:(?P<scheme>{_SCHEME}[^\s<>\"']+)|(?P<address>{_ADDRESS})"
    rf"|(?<![@.-])(?P<name>(?:www{_DOT}[^\s<>\"']+|(?:{_NAME})(?::\d+)?(?:[/?\#][^\s<>\"']*)?)))",
    re.IGNORECASE,
)
_LEAD = re.compile(r"(?:https?:[/\\]{2})?(?:www\.)?([^/?#]*)", re.IGNORECASE)
_TRAIL = ".,;:!?)]}*_\u00bb\u201d\u2019"

_ELEMENT = (
    "a|abbr|address|applet|area|article|audio|b|base|blink|blockquote|body|br|button|canvas|center"
    "|code|col|dd|details|div|dl|dt|em|embed|fieldset|font|footer|form|frame|frameset|h[1-6]|head"
    "|header|hr|html|i|iframe|img|input|label|li|link|main|map|marquee|math|meta|nav|noscript"
    "|object|ol|option|p|param|picture|pre|s|script|section|select|small|source|span|strong|style"
    "|sub|summary|sup|svg|table|tbody|td|template|textarea|tfoot|th|thead|title|tr|track|tt|u|ul"
    "|var|video|wbr|xml"
)
_TAG = re.compile(
    rf"<!--.*?(?:-->|$)|<[!?](?:doctype|\[cdata\[|xml)[^<>]*>?|</?(?:{_ELEMENT})(?=[\s/>])[^<>\n]*>"
    rf"|</?(?:{_ELEMENT})(?=[\s/>])|</?[a-z][\w:-]*\s[^<>\n]*=[^<>\n]*>",
    re.IGNORECASE,
)
_LONGEST_TAG = 500  # characters that a draft that is shown as it comes is held back for
_END_OF_WORD = re.compile(r"\s")


class Guard:
    """Takes out of a draft what nobody gave.

    Args:
        words: What the owner wrote for this draft and of herself.
        earlier: Returns her earlier mails that hold these characters.
        addresses: Whom the draft is for and from.
    """

    def __init__(
        self,
        words: Iterable[str],
        earlier: Callable[[str], Iterable[str]],
        addresses: Iterable[str] = (),
    ) -> None:
        self._words = tuple(words)
        self._earlier = earlier
        self._given = {key(one) for text in self._words for one in links(text)}
        self._given |= {key(one) for one in addresses}
        self._held = ""

    def clean(self, text: str) -> str:
        """Return a whole text without links, addresses and tags that may not stay."""
        text = INVISIBLE.sub("", text)
        while (less := _TAG.sub(self._tag, text)) != text:  # one tag may be hidden in another
            text = less
        return _LINK.sub(self._link, text)

    def feed(self, piece: str) -> str:
        """Take the next piece of a text; return what of it can be shown: whole words and tags."""
        self._held += piece
        end = max((match.end() for match in _END_OF_WORD.finditer(self._held)), default=0)
        opened = self._held.rfind("<", max(0, end - _LONGEST_TAG), end)
        if opened > self._held.rfind(">", 0, end) and "\n" not in self._held[opened:end]:
            end = opened
        shown, self._held = self._held[:end], self._held[end:]
        return self.clean(shown)

    def end(self) -> str:
        """Return what was held back."""
        shown, self._held = self._held, ""
        return self.clean(shown)

    def _tag(self, match: re.Match[str]) -> str:
        return match[0] if any(match[0] in text for text in self._words) else ""

    def _link(self, match: re.Match[str]) -> str:
        link = match[0].rstrip(_TRAIL)
        if key(link) in self._given or self._wrote(link):
            return match[0]
        what = "address" if match["address"] else "link"
        return f"[{what} removed]{match[0][len(link) :]}"

    def _wrote(self, link: str) -> bool:
        wanted = key(link)
        return any(key(one) == wanted for text in self._earlier(_bare(link)) for one in links(text))


def links(text: str) -> list[str]:
    """Return the links and addresses in a text, without the punctuation behind them."""
    return [match[0].rstrip(_TRAIL) for match in _LINK.finditer(text)]


def harmless(name: str) -> str:
    """Return the name that somebody gave herself, or "" where a link or an address is in it."""
    return "" if links(INVISIBLE.sub("", name)) else name


def key(link: str) -> str:
    """Return a link so that two are equal if and only if they lead to one place."""
    bare = _bare(link)
    if "@" in bare and "/" not in bare:
        return bare.casefold()
    match = _LEAD.match(bare)
    host = match[1] if match else ""
    return host.casefold() + bare[len(host) :].rstrip("/")


def _bare(link: str) -> str:
    match = _LEAD.match(link)
    return link[match.start(1) :] if match else link
