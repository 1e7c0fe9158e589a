"""The command line: what was typed becomes a call, and its outcome text or JSON.

What a command prints for its user goes to standard output; progress, notes and faults go to
standard error. Whatever a command needs is imported when it is called, so that `panza status` and
`panza check` start at once.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import sys
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daemon.errors import FAILED, advice

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_LIGHT = "daemon.commands"
_HEAVY = "daemon.model_commands"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command came to.

    Attributes:
        data: What ``--json`` prints; None for a command that has printed all there is itself.
        text: What is printed without ``--json``.
        exit_code: What the process ends with.
        notes: Sentences for standard error.
    """

    data: dict[str, Any] | None
    text: str = ""
    exit_code: int = 0
    notes: Sequence[str] = field(default=())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        arguments: The words behind ``panza``; those of the process by default.
    """
    options = parser().parse_args(arguments)
    # On a machine that others use too, threads that spin while they wait for each other make a
    # training several times slower than threads that sleep. libgomp reads this once, with torch.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    logging.basicConfig(
        level=logging.INFO if options.debug else logging.WARNING,
        format="%(levelname)s %(name)s: %(message)s",
    )
    try:
        outcome = _handler(options)(options)
        _print(outcome, as_json=options.json)
    except BrokenPipeError:
        # The reader of our output, `head` for example, has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the one place that tells faults
        return _fault(error, options)
    return outcome.exit_code


def _handler(options: argparse.Namespace) -> Callable[[argparse.Namespace], Outcome]:
    module = importlib.import_module(options.module)
    handler: Callable[[argparse.Namespace], Outcome] = getattr(module, options.command)
    return handler


def _print(outcome: Outcome, *, as_json: bool) -> None:
    for note in outcome.notes:
        print(note, file=sys.stderr)
    if outcome.data is None:
        return
    if as_json:
        print(json.dumps(outcome.data, ensure_ascii=False, default=str))
    elif outcome.text:
        print(outcome.text)
    sys.stdout.flush()


def _fault(error: BaseException, options: argparse.Namespace) -> int:
    if options.debug:
        traceback.print_exception(error)
    told = advice(error)
    if options.json:
        print(told.json())
    print(f"panza: {told}", file=sys.stderr)
    return told.exit_code


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    top = argparse.ArgumentParser(
        prog="panza",
        description="Drafts mail in your own voice, on your own machine.",
        epilog="Exit codes: 0 done, 1 failed, 2 wrong usage, 75 try again later, 78 configuration.",
        allow_abbrev=False,
    )
    _add_general(top, default=None)
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_light(commands)
    _add_service(commands)
    _add_heavy(commands)
    return top


def _add_general(to: argparse.ArgumentParser, default: str | None) -> None:
    """Add the options that may stand before the command or behind it.

    Behind it they have no defaults, because these would overwrite what stood before it.
    """
    off: Any = False if default is None else default
    to.add_argument(
        "--config", type=Path, metavar="FILE", default=default, help="the configuration to use"
    )
    to.add_argument(
        "--account", metavar="NAME", default=default, help="which account, where there are several"
    )
    to.add_argument(
        "--json", action="store_true", default=off, help="print one JSON object and nothing else"
    )
    to.add_argument(
        "--debug", action="store_true", default=off, help="log more, and show where a fault arose"
    )


def _add(
    commands: Any,  # noqa: ANN401 - argparse has no public name for it
    name: str,
    module: str,
    summary: str,
    example: str,
) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=f"Example: {example}",
        allow_abbrev=False,
    )
    command.set_defaults(module=module)
    _add_general(command, default=argparse.SUPPRESS)
    return command


def _add_light(commands: Any) -> None:  # noqa: ANN401
    _add(
        commands,
        "check",
        _LIGHT,
        "look at configuration, logins, folders, models and memory, and say what to do",
        "panza --config panza.yaml check",
    )
    _add(commands, "sync", _LIGHT, "read new sent mail", "panza sync --account work")
    search = _add(
        commands,
        "search",
        _LIGHT,
        "show which of your mails are nearest to a text",
        'panza search "move the meeting to Friday"',
    )
    search.add_argument("query", metavar="QUERY", help="what to look for")
    search.add_argument(
        "--count", type=_positive, default=10, metavar="N", help="how many mails (default 10)"
    )
    adapters = _add(
        commands,
        "adapters",
        _LIGHT,
        "list the trained adapters, put one in use, or go back to the one before",
        "panza adapters rollback",
    )
    actions = adapters.add_subparsers(dest="action", metavar="list|promote ID|rollback")
    _add_general(actions.add_parser("list", help="list them"), default=argparse.SUPPRESS)
    promote = actions.add_parser("promote", help="put an adapter in use")
    promote.add_argument("adapter", metavar="ID", help="its id")
    _add_general(promote, default=argparse.SUPPRESS)
    _add_general(
        actions.add_parser("rollback", help="go back to the adapter that was in use before"),
        default=argparse.SUPPRESS,
    )
    _add(
        commands,
        "run",
        _LIGHT,
        "run the daemon in the foreground: sync, requests and training, until it is stopped",
        "panza --config panza.yaml run",
    )
    _add(
        commands,
        "status",
        _LIGHT,
        "show what Panza knows and did: mails, adapters, requests, the last runs",
        "panza status --json",
    )


def _add_service(commands: Any) -> None:  # noqa: ANN401
    service = _add(
        commands,
        "service",
        "daemon.service_command",
        "let systemd run the daemon: install the service, or uninstall it",
        "sudo /opt/panza/bin/panza --config /etc/panza/panza.yaml service install",
    )
    actions = service.add_subparsers(dest="action", metavar="install|uninstall", required=True)
    for name, summary in (
        ("install", "write the units for this installation, and start the service"),
        ("uninstall", "stop the service and take its units out; data and configuration stay"),
    ):
        action = actions.add_parser(name, help=summary, allow_abbrev=False)
        action.add_argument(
            "--user", action="store_true", help="a service of your own, without root"
        )
        action.add_argument(
            "--no-start", action="store_true", help="change files only; start and stop nothing"
        )
        action.add_argument(
            "--prefix",
            type=Path,
            metavar="DIR",
            help="change files only, below this folder, as for an image",
        )
        _add_general(action, default=argparse.SUPPRESS)


def _add_heavy(commands: Any) -> None:  # noqa: ANN401
    demo = _add(
        commands,
        "demo",
        _HEAVY,
        "do all of it on a sample mailbox: sync, training and a draft, with no account",
        "panza demo --serve",
    )
    demo.add_argument(
        "--dir", type=Path, metavar="D", help="keep everything in this folder (default: a new one)"
    )
    demo.add_argument(
        "--serve", action="store_true", help="keep the mailbox open for a mail client at the end"
    )
    train = _add(
        commands,
        "train",
        _HEAVY,
        "train an adapter on your mail, and put it in use if it proves itself",
        "panza train --epochs 3",
    )
    train.add_argument("--method", choices=("rosa", "lora", "full"), help="instead of the set one")
    train.add_argument(
        "--emails", type=_positive, metavar="N", help="learn from the newest N mails"
    )
    train.add_argument("--epochs", type=_positive, metavar="N", help="see each mail N times")
    write = _add(
        commands,
        "write",
        _HEAVY,
        "write one draft, or one for each line of a file",
        'panza write "Tell Stew I cannot make Thursday, offer Friday at 3"',
    )
    write.add_argument("instruction", nargs="?", metavar="INSTRUCTION", help="what to write")
    write.add_argument("--to", metavar="A", help="for whom: addresses, or names from your mail")
    write.add_argument("--reply-to", metavar="MESSAGE-ID", help="the mail to answer")
    write.add_argument(
        "--seed", type=int, default=0, metavar="N", help="another number, another draft (default 0)"
    )
    write.add_argument(
        "--batch",
        type=Path,
        metavar="FILE.jsonl",
        help="a JSON object a line with instruction, to, reply_to, seed; a JSON object a line out",
    )
    model = _add(
        commands,
        "model",
        _HEAVY,
        "run the model process: it answers on a socket, has no network, and leaves when unused",
        "panza model --socket /run/user/1000/panza-model.sock",
    )
    model.add_argument(
        "--socket",
        type=Path,
        metavar="PATH",
        help="where to listen, unless systemd or `panza run` has started it "
        "(default: $PANZA_MODEL_SOCKET, else panza-model.sock in $XDG_RUNTIME_DIR)",
    )
    evaluate = _add(
        commands,
        "evaluate",
        _HEAVY,
        "score an adapter on your newest mails, or on any mbox of yours",
        "panza evaluate --adapter base",
    )
    evaluate.add_argument("--mail", type=Path, metavar="FILE.mbox", help="instead of the hold-out")
    evaluate.add_argument(
        "--adapter", default="current", metavar="base|current|ID", help="default: current"
    )


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return number
