"""What a service tells the service manager about itself (sd_notify(3), sd_watchdog_enabled(3))."""

from __future__ import annotations

import contextlib
import os
import socket


def notify(*states: str) -> None:
    """Tell systemd, for example, ``READY=1`` or ``STATUS=…``; do nothing without systemd.

    The manager may be gone or not listening; that is its affair and no error here.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):  # a name in the abstract namespace
        address = "\0" + address[1:]
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection,
    ):
        connection.sendto("\n".join(states).encode(), address)


def watchdog_seconds() -> float | None:
    """Return how long this process may keep silent, None where nobody watches it."""
    value = os.environ.get("WATCHDOG_USEC", "")
    meant = os.environ.get("WATCHDOG_PID", "")
    if not value.isdigit() or (meant and meant != str(os.getpid())):
        return None
    return int(value) / 1_000_000 or None
