"""The process in which messages are read: bytes on its input, what they say on its output.

Mail is written by strangers, and it is taken apart by regular expressions and a C library. Here a
message that finds a fault in one of them can take no more than a few seconds and some memory, and
costs itself alone; `connectors.readers` is the other end.

A job is one line of JSON, a list with the size in bytes and the time of arrival of each message,
and then the bytes of all of them. The answer is one line of JSON for each: its mail as a list, or a
string that says why it cannot be read.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from connectors.base import MessageError
from connectors.mail import Address, Mail, parse

if TYPE_CHECKING:
    from typing import BinaryIO

SECONDS: Final = 2.0
"""The time of a processor that one message may take, on which the process ends by SIGPROF."""

MEMORY: Final = 256 * 2**20
"""The address space of the process, in bytes."""

TOO_LONG: Final = "reading it takes too long"
TOO_MUCH: Final = "reading it takes too much memory"
FAULT: Final = "reading it meets a fault of Panza's"


def serve(jobs: BinaryIO, answers: BinaryIO, *, seconds: float, memory: int) -> None:
    """Answer jobs until there are no more, or one needs more memory than there is."""
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core would be mail on the disk
    _answer(answers, "ready")
    while line := jobs.readline():
        wanted = json.loads(line)
        for raw, received in [(jobs.read(size), received) for size, received in wanted]:
            signal.setitimer(signal.ITIMER_PROF, seconds)
            found: object
            try:
                found = encoded(parse(raw, received=received and datetime.fromisoformat(received)))
            except MemoryError:
                _answer(answers, TOO_MUCH)
                return  # what is left of the heap is in pieces
            except MessageError as error:
                found = error.reason
            except Exception as error:  # noqa: BLE001 - a fault of ours costs one message as well
                found = f"{FAULT} ({type(error).__name__})"
            signal.setitimer(signal.ITIMER_PROF, 0)
            _answer(answers, found)


def encoded(mail: Mail) -> list[Any]:
    """Return a mail as what JSON can carry."""
    return [
        mail.message_id,
        mail.content_hash,
        mail.sender and [mail.sender.name, mail.sender.email],
        [[one.name, one.email] for one in mail.to],
        [[one.name, one.email] for one in mail.cc],
        mail.date.isoformat(),
        mail.subject,
        mail.in_reply_to,
        list(mail.references),
        mail.text,
        mail.answered,
        mail.automatic,
        mail.quoting,
        mail.heading,
    ]


def decoded(values: list[Any]) -> Mail:
    """Return the mail that `encoded` was given."""
    message_id, content_hash, sender, to, cc, date, subject, *rest = values
    in_reply_to, references, text, answered, automatic, quoting, heading = rest
    return Mail(
        message_id=message_id,
        content_hash=content_hash,
        sender=Address(*sender) if sender else None,
        to=tuple(Address(*one) for one in to),
        cc=tuple(Address(*one) for one in cc),
        date=datetime.fromisoformat(date),
        subject=subject,
        in_reply_to=in_reply_to,
        references=tuple(references),
        text=text,
        answered=answered,
        automatic=automatic,
        quoting=quoting,
        heading=heading,
    )


def _answer(answers: BinaryIO, value: object) -> None:
    answers.write(json.dumps(value).encode() + b"\n")
    answers.flush()


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer, seconds=float(sys.argv[1]), memory=int(sys.argv[2]))
