"""What a writer is asked, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime  # noqa: TC003 - daemon.protocol reads the annotations

from connectors.mail import Address  # noqa: TC001 - daemon.protocol reads the annotations

ANSWER = "Answer this mail."
"""The instruction where the owner gave none and only put a mail into the folder."""


@dataclass(frozen=True, slots=True)
class Brief:
    """All that the owner's request says about the draft she wants.

    Attributes:
        instruction: What shall be written, in her words, or `ANSWER`.
        to: Whom the draft is for; empty where that is not known.
        subject: The draft's subject, "" where the model shall find one.
        thread: The text that is answered, "" for a new mail. Data, never instructions.
        before: When she asked, aware: no mail of this moment or later may be drawn upon.
        in_reply_to: Message-ID of the mail that is answered, "" for a new one.
        seed: Starts the sampling: the same brief with the same seed gives the same draft.
    """

    instruction: str
    to: tuple[Address, ...]
    subject: str
    thread: str
    before: datetime
    in_reply_to: str = ""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Source:
    """One of the owner's earlier mails that a draft was written with.

    Attributes:
        message_id: Its Message-ID without angle brackets.
        score: How near it is to the request; higher is nearer.
    """

    message_id: str
    score: float


@dataclass(frozen=True, slots=True)
class Draft:
    """What the model wrote.

    Attributes:
        subject: The subject it was given or found, on one line.
        body: Plain text: greeting, words and closing, no quoted mail.
        adapter: The adapter it was written with, "base" for none.
        sources: The earlier mails in its prompt, nearest first.
    """

    subject: str
    body: str
    adapter: str = "base"
    sources: tuple[Source, ...] = ()
