r"""What the mail process and the model process say to each other, version 1.

A connection to the model process's Unix stream socket is one job. Either side writes lines: one
JSON object each, UTF-8, ended by a line feed, at most `MAX_LINE` bytes long. The client writes
one line, the request; it has ``panza``, the version, ``do``, the job, and the job's own fields::

    {"panza": 1, "do": "write", "account": "work", "brief": {"instruction": "…", "to":
        [{"name": "Stew", "email": "stew@example.org"}], "subject": "", "thread": "",
        "before": "2024-05-01T09:00:00Z", "in_reply_to": "", "seed": 0}}
    {"panza": 1, "do": "embed", "texts": ["…", "…"]}
    {"panza": 1, "do": "playback", "account": "work", "emails": 1000}
    {"panza": 1, "do": "train", "account": "work", "method": "rosa", "emails": 1000, "epochs": 5}
    {"panza": 1, "do": "evaluate", "account": "work", "adapter": "current", "mail": "/sent.mbox"}

A brief may lack `in_reply_to` and `seed`. Where they are left out `emails`, `method` and `epochs`
are what panza.yaml says, `adapter` is ``current`` and `mail` the hold-out. The server answers with
lines of one key each:

- ``{"progress": [what, done, total]}``, any number of them, at least one every `KEEP_ALIVE`
  seconds; ``total`` is null where it is not known. While the job waits for its turn ``what`` is
  `WAITING`: a connection that ends up to then has changed and cost nothing.
- ``{"made": {"version": "…", "instructions": {key: [text, source], …}}}``, of playback alone: a
  batch of what it made, to be kept by the client.
- At last one of four, after which the server closes the connection:

  - ``{"result": {…}}``, the outcome. Of write: ``subject``, ``body``, ``adapter``, ``sources``; of
    embed: ``hash``, the model's, and ``vectors``, one of length 1 for each text: base64 of its
    numbers (float32, little endian); of playback: ``made`` and ``total``; of train and evaluate:
    what ``panza train --json`` and ``panza evaluate --json`` hold.
  - ``{"error": {"message": "…", "next_step": "…", "exit_code": 1}}``, what the job itself met, as
    the command line tells it: 75 for what may be tried again, 78 for the configuration's faults.
  - ``{"died": reason}``: the process that did the job was ended in the middle of it.
  - ``{"unavailable": reason}``: the job was not done, through no fault of its own.

Closing the connection (not only its sending half) cancels the job. Whoever is neither root nor of
the server's own user is refused. By hand, for example::

    echo '{"panza": 1, "do": "embed", "texts": []}' | socat -t 60 - UNIX-CONNECT:model.sock
"""

from __future__ import annotations

import json
from pathlib import Path  # noqa: TC003 - pydantic reads the annotations
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from daemon.brief import Brief, Draft
from daemon.errors import DaemonError

VERSION = 1

MAX_LINE = 4 << 20
"""In bytes: a thread of 50,000 characters has room, whatever they are and however escaped."""

KEEP_ALIVE = 10.0
"""Seconds that a server lets pass at most before it says again how far a job is."""

WAITING = "waiting"
"""What a job is at that was not begun."""


class ProtocolError(DaemonError):
    """A line that is none of this protocol, or of another version of it."""


class _Request(BaseModel):
    # hide_input: what stands in a request is mail, and no error shows any.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)

    panza: Literal[1] = 1

    def line(self) -> bytes:
        """Return the request as its line."""
        return _ended(self.model_dump(exclude_none=True))


class Write(_Request):
    """Write one draft."""

    do: Literal["write"] = "write"
    account: str
    brief: Brief


class Embed(_Request):
    """Turn texts into vectors; without texts only the model's hash is asked for."""

    do: Literal["embed"] = "embed"
    texts: tuple[str, ...]


class Playback(_Request):
    """Make the instruction that could have produced each of the newest mails."""

    do: Literal["playback"] = "playback"
    account: str
    emails: Annotated[int, Field(ge=1)] | None = None


class Train(_Request):
    """Train an adapter, judge it, and put it in use if it has proved itself."""

    do: Literal["train"] = "train"
    account: str
    method: Literal["rosa", "lora", "full"] | None = None
    emails: Annotated[int, Field(ge=1)] | None = None
    epochs: Annotated[int, Field(ge=1)] | None = None


class Evaluate(_Request):
    """Score an adapter on the hold-out, or on an mbox of the owner's."""

    do: Literal["evaluate"] = "evaluate"
    account: str
    adapter: str = "current"
    mail: Path | None = None


Request = Write | Embed | Playback | Train | Evaluate

_REQUESTS: dict[str, type[Request]] = {
    "write": Write,
    "embed": Embed,
    "playback": Playback,
    "train": Train,
    "evaluate": Evaluate,
}
_DRAFT = TypeAdapter(Draft)


def request(line: bytes) -> Request:
    """Read a request.

    Raises:
        ProtocolError: It is of another version, names no known job, or has faults.
    """
    data = _object(line)
    version, job = data.get("panza"), data.get("do")
    if version != VERSION:
        raise ProtocolError(
            f"the model process speaks version {VERSION} and was asked in version {version!r:.20}; "
            "restart both processes of Panza"
        )
    if not isinstance(job, str) or job not in _REQUESTS:
        raise ProtocolError(f"there is no job {job!r:.40}, but: {', '.join(_REQUESTS)}")
    try:
        return _REQUESTS[job].model_validate_json(line)
    except ValidationError as error:
        faults = [
            f"{'.'.join(map(str, one['loc']))}: {one['msg']}"
            for one in error.errors(include_url=False, include_context=False, include_input=False)
        ]
        raise ProtocolError(f"the request to {job} has faults: {'; '.join(faults)}") from None


def answer(line: bytes) -> tuple[str, Any]:
    """Read a line of an answer; return its one key, and what it holds.

    Raises:
        ProtocolError: It is no such line.
    """
    data = _object(line)
    if len(data) != 1:
        raise ProtocolError("the model process answered with a line of several keys or none")
    return next(iter(data.items()))


def line(key: str, value: object) -> bytes:
    """Return a line of an answer."""
    return _ended({key: value})


def draft_fields(draft: Draft) -> dict[str, Any]:
    """Return a draft as the result of `Write`."""
    fields: dict[str, Any] = _DRAFT.dump_python(draft, mode="json")
    return fields


def draft(fields: object) -> Draft:
    """Read a draft from the result of `Write`.

    Raises:
        ProtocolError: It is none.
    """
    try:
        return _DRAFT.validate_python(fields)
    except ValidationError:
        raise ProtocolError("the model process answered with what is no draft") from None


def _object(line: bytes) -> dict[str, Any]:
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise ProtocolError("this is no line of Panza's protocol: expected a JSON object")
    return data


def _ended(data: dict[str, Any]) -> bytes:
    text = json.dumps(data, ensure_ascii=False, default=str)
    # Half a surrogate pair can stand in a mail; UTF-8 has no bytes for it.
    return text.encode("utf-8", "replace") + b"\n"
