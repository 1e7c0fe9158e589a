"""What other libraries take for the writer's own words, each used as its documentation shows.

Run by the Python of an environment that has them, texts as a JSON list on standard input; what it
prints is one JSON object, {library: [own words of each text]}. A library that is not installed is
left out.
"""

from __future__ import annotations

import json
import sys
import warnings
from importlib import metadata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def quotequail() -> Callable[[str], str]:
    """Join what stands above and below the quote."""
    import quotequail

    def own(text: str) -> str:
        found = quotequail.unwrap(text)
        if found is None:
            return text
        return "\n\n".join(found[k] for k in ("text_top", "text_bottom") if k in found)

    return own


def mail_parser_reply() -> Callable[[str], str]:
    """Take the latest reply, in all languages that the library knows."""
    from mailparser_reply import EmailReplyParser
    from mailparser_reply.constants import MAIL_LANGUAGES

    parser = EmailReplyParser(languages=list(MAIL_LANGUAGES))
    return lambda text: parser.parse_reply(text) or ""


def mail_parser_reply_body() -> Callable[[str], str]:
    """Take the latest reply without what the library holds for signature and disclaimer."""
    from mailparser_reply import EmailReplyParser
    from mailparser_reply.constants import MAIL_LANGUAGES

    parser = EmailReplyParser(languages=list(MAIL_LANGUAGES))

    def own(text: str) -> str:
        replies = parser.read(text).replies
        return str(replies[0].body) if replies else ""

    return own


def talon() -> Callable[[str], str]:
    """Take off the quotes."""
    import talon
    from talon import quotations

    talon.init()
    return quotations.extract_from_plain


def talon_signature() -> Callable[[str], str]:
    """Take off the quotes, then the signature by the rules that need no sender."""
    import talon
    from talon import quotations
    from talon.signature.bruteforce import extract_signature

    talon.init()
    return lambda text: str(extract_signature(quotations.extract_from_plain(text))[0])


LIBRARIES = (
    ("quotequail", "", quotequail),
    ("mail-parser-reply", "", mail_parser_reply),
    ("mail-parser-reply", ", body", mail_parser_reply_body),
    ("talon", "", talon),
    ("talon", ", signature", talon_signature),
)


def main() -> None:
    """Answer for every library that is here."""
    warnings.simplefilter("ignore")
    texts: list[str] = json.load(sys.stdin)
    answers: dict[str, list[str]] = {}
    for name, variant, prepare in LIBRARIES:
        try:
            own = prepare()
        except ImportError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
            continue
        answers[f"{name} {metadata.version(name)}{variant}"] = [own(text) for text in texts]
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
