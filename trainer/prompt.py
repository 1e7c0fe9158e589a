"""The one prompt builder: for training, evaluation and writing alike."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ask:
    """All that a draft is written from.

    Attributes:
        instruction: What the owner wants written, in her words.
        to: The names of the recipients, as the owner would greet them; "" if not known.
        subject: The subject where it is given (a reply, or the owner's wish), else "".
        thread: The text that is answered, "" for a new mail.
        retrieved: Texts of the owner's own earlier mails, nearest first.
        profile: What the owner says of herself in panza.yaml.
        owner: The owner's full name.
    """

    instruction: str
    to: str = ""
    subject: str = ""
    thread: str = ""
    retrieved: tuple[str, ...] = ()
    profile: str = ""
    owner: str = ""
