"""The embedded IMAP server's process: pymap, run as a script by `daemon.demo.server`.

It reads its settings as one line of JSON, answers with its port, and serves until its standard
input ends, which it does when the parent process ends, however that comes about.

pymap's Maildir back-end turns CRLF into LF and drops the connection when a folder is made twice, so
its back-end in memory is used, and `_Keeper` keeps that mail in a folder where it is to last. Only
pymap and the standard library may be imported here: the folder of the packages is not on the path.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from argparse import Namespace
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from proxyprotocol.reader import ProxyProtocolReader
from pymap.backend.dict import DictBackend
from pymap.backend.dict.filter import FilterSet
from pymap.backend.dict.mailbox import MailboxData, MailboxSet
from pymap.imap import IMAPServer
from pymap.parsing.message import AppendMessage
from pymap.parsing.specials.flag import Flag
from pysasl.hashing import BuiltinHash

_SAVE_EVERY = 0.5  # seconds
_INDEX = "folder.json"


class _Keeper:
    """Keeps a mailbox in a folder: a subfolder for each folder, a file for each message.

    A message's file is written before the index that names it, and the index is replaced in one
    step, so what the index names is always there.
    """

    def __init__(self, root: Path, mailboxes: MailboxSet) -> None:
        self._root = root
        self._mailboxes = mailboxes
        self._saved: dict[str, tuple[int, int]] = {}
        root.mkdir(parents=True, exist_ok=True, mode=0o700)

    async def load(self) -> None:
        """Bring back what was saved."""
        for index in sorted(self._root.glob(f"*/{_INDEX}")):
            data = json.loads(index.read_text(encoding="utf-8"))
            mailbox = await _made(self._mailboxes, unquote(index.parent.name))
            mailbox._uid_validity = data["uidvalidity"]  # noqa: SLF001 - pymap draws its own
            for uid, facts in data["messages"].items():
                raw = (index.parent / f"{uid}.eml").read_bytes()
                received = datetime.fromisoformat(facts["received"])
                flags = frozenset(Flag(flag) for flag in facts["flags"])
                mailbox._max_uid = int(uid) - 1  # noqa: SLF001
                await mailbox.append(AppendMessage(raw, received, flags))
            mailbox._max_uid = data["uidnext"] - 1  # noqa: SLF001

    async def run(self) -> None:
        """Save what changed, again and again."""
        while True:
            await asyncio.sleep(_SAVE_EVERY)
            await self.save()

    async def save(self) -> None:
        """Write every folder that changed since it was last written."""
        tree = await self._mailboxes.list_mailboxes()
        names = [entry.name for entry in tree.list() if entry.exists]
        for name in names:
            mailbox = await self._mailboxes.get_mailbox(name)
            version = (mailbox.uid_validity, mailbox._mod_sequences.highest)  # noqa: SLF001
            if self._saved.get(name) != version:
                self._write(self._root / quote(name, safe=" "), mailbox)
                self._saved[name] = version
        for gone in self._saved.keys() - set(names):
            (self._root / quote(gone, safe=" ") / _INDEX).unlink(missing_ok=True)
            del self._saved[gone]

    def _write(self, folder: Path, mailbox: MailboxData) -> None:
        folder.mkdir(exist_ok=True, mode=0o700)
        messages = {}
        for uid, message in mailbox._messages.items():  # noqa: SLF001
            path = folder / f"{uid}.eml"
            if not path.exists():
                # Only what is fetched in part has no content, and nothing here is.
                _replace(path, bytes(message._content))  # type: ignore[arg-type]  # noqa: SLF001
            messages[uid] = {
                "flags": sorted(str(flag) for flag in message.permanent_flags),
                "received": message.internal_date.isoformat(),
            }
        index = {
            "uidvalidity": mailbox.uid_validity,
            "uidnext": mailbox._max_uid + 1,  # noqa: SLF001
            "messages": messages,
        }
        _replace(folder / _INDEX, json.dumps(index, indent=1).encode())
        for path in folder.glob("*.eml"):
            if int(path.stem) not in messages:
                path.unlink()


async def _made(mailboxes: MailboxSet, name: str) -> MailboxData:
    """Return a folder, made and subscribed to first if it is missing."""
    try:
        return await mailboxes.get_mailbox(name)
    except KeyError:
        await mailboxes.add_mailbox(name)
        await mailboxes.set_subscribed(name, subscribed=True)
        return await mailboxes.get_mailbox(name)


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(content)
    temporary.replace(path)


async def _serve(settings: dict[str, Any]) -> None:
    backend, config = await DictBackend.init(
        _arguments(settings), hash_context=BuiltinHash(rounds=1)
    )
    config.apply_context()
    mailboxes = MailboxSet()
    config.set_cache[settings["user"]] = (mailboxes, FilterSet())
    keeper = _Keeper(Path(settings["keep"]), mailboxes) if settings["keep"] else None
    if keeper:
        await keeper.load()
    for name in settings["folders"]:
        await _made(mailboxes, name)
    serve = ProxyProtocolReader(config.proxy_protocol).get_callback(
        IMAPServer(backend.login, config)
    )
    listener = await asyncio.start_server(serve, settings["host"], settings["port"])
    saving = asyncio.create_task(keeper.run()) if keeper else None
    print(listener.sockets[0].getsockname()[1], flush=True)  # noqa: T201 - the answer
    await asyncio.to_thread(sys.stdin.read)
    listener.close()
    if keeper and saving:
        saving.cancel()
        await keeper.save()


def _arguments(settings: dict[str, Any]) -> Namespace:
    """Return the command line that pymap is configured by."""
    return Namespace(
        host=settings["host"],
        port=settings["port"],
        demo_user=settings["user"],
        demo_password=settings["password"],
        demo_data=False,
        tls=False,
        cert=None,
        key=None,
        debug=False,
        passlib_cfg=None,
        proxy_protocol=None,
    )


def main() -> None:
    """Serve, or answer with the reason why not."""
    logging.disable()  # what pymap logs can show mail
    os.environ["FQDN"] = "localhost"  # for the greeting; asking the network for it can take long
    try:
        asyncio.run(_serve(json.loads(sys.stdin.readline())))
    except Exception as error:  # noqa: BLE001 - the parent has no other way to learn it
        print(f"{type(error).__name__}: {error}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
