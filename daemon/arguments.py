"""What can be typed behind `panza`: each command, its options, and where it is done."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

_LIGHT = "daemon.commands"
_HEAVY = "daemon.model_commands"


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line.

    What it returns has, beside the options, ``command`` and the ``module`` whose function of that
    name does it.
    """
    top = argparse.ArgumentParser(
        prog="panza",
        description="Drafts mail in your own voice, on your own machine.",
        epilog="Exit codes: 0 done, 1 failed, 2 wrong usage, 75 try again later, 78 configuration.",
        allow_abbrev=False,
    )
    _add_general(top, default=None)
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for add in (
        _check,
        _sync,
        _search,
        _adapters,
        _run,
        _status,
        _service,
        _demo,
        _train,
        _write,
        _model,
        _evaluate,
        _export,
    ):
        add(commands)
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


def _check(commands: Any) -> None:  # noqa: ANN401
    _add(
        commands,
        "check",
        _LIGHT,
        "look at configuration, logins, folders, models and memory, and say what to do",
        "panza --config panza.yaml check",
    )


def _sync(commands: Any) -> None:  # noqa: ANN401
    _add(commands, "sync", _LIGHT, "read new sent mail", "panza sync --account work")


def _search(commands: Any) -> None:  # noqa: ANN401
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


def _adapters(commands: Any) -> None:  # noqa: ANN401
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


def _run(commands: Any) -> None:  # noqa: ANN401
    _add(
        commands,
        "run",
        _LIGHT,
        "run the daemon in the foreground: sync, requests and training, until it is stopped",
        "panza --config panza.yaml run",
    )


def _status(commands: Any) -> None:  # noqa: ANN401
    _add(
        commands,
        "status",
        _LIGHT,
        "show what Panza knows and did: mails, adapters, requests, the last runs",
        "panza status --json",
    )


def _service(commands: Any) -> None:  # noqa: ANN401
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


def _demo(commands: Any) -> None:  # noqa: ANN401
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


def _train(commands: Any) -> None:  # noqa: ANN401
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
    train.add_argument(
        "--processes",
        type=_positive,
        metavar="N",
        default=1,
        help="share the work among N processes, each with a GPU of its own; by default one",
    )


def _write(commands: Any) -> None:  # noqa: ANN401
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


def _model(commands: Any) -> None:  # noqa: ANN401
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


def _evaluate(commands: Any) -> None:  # noqa: ANN401
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


def _export(commands: Any) -> None:  # noqa: ANN401
    export = _add(
        commands,
        "export",
        "daemon.export_command",
        "write the model with its adapter merged in, for use elsewhere: a folder for transformers, "
        "or one .gguf file for llama.cpp",
        "panza export ~/my-voice.gguf, then: llama-cli -m ~/my-voice.gguf",
    )
    export.add_argument(
        "target", type=Path, metavar="TARGET", help="a new folder, or a file that ends with .gguf"
    )
    export.add_argument(
        "--adapter", default="current", metavar="current|ID|base", help="default: current"
    )
    export.add_argument(
        "--type",
        choices=("q8_0", "f16"),
        help="what a .gguf file holds the weights in: 8 or 16 bits (default q8_0)",
    )
    export.add_argument("--force", action="store_true", help="replace an earlier export there")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return number
