"""Logging in to an IMAP server with a password or an OAuth 2 token."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

from imapclient.exceptions import IMAPClientAbortError, IMAPClientError

from connectors.base import InsecureError, LoginRefusedError, UnreachableError
from connectors.imap_errors import TEMPORARY, answer

if TYPE_CHECKING:
    from connectors.imap_client import Client
    from connectors.imap_session import ImapSettings

_BEARERS: Final = ("OAUTHBEARER", "XOAUTH2")
"""The standard (RFC 7628) before what Google made up earlier and Microsoft took over."""

_CONTROL = re.compile(r"[\r\n\0\1]")


def log_in(client: Client, settings: ImapSettings, secret: str) -> None:
    """Log in with a password, or with a token where the settings say so.

    Raises:
        LoginRefusedError: The user name, the password or the token is wrong, or the server takes
            none of that kind.
        InsecureError: The server wants no password on a line in clear.
        UnreachableError: The server has no time now.
    """
    if _CONTROL.search(settings.user + secret):
        # It would be a command of its own on the line, or another field of a token.
        raise _refused(settings, "the user name or the password holds a line break")
    try:
        kind, words, challenge = _attempt(client, settings, secret)
    except UnicodeEncodeError as error:
        reason = "the server takes no letters beyond ASCII in user name and password"
        raise _refused(settings, reason) from error
    except IMAPClientAbortError:
        raise
    except IMAPClientError as error:  # BAD
        raise _refused(settings, answer(error)[1]) from error
    if kind != "OK":
        code, reason = answer(IMAPClientError(words))
        if code in TEMPORARY:
            raise UnreachableError(settings.host, settings.port, reason)
        raise _refused(settings, reason + _hint(client, settings, challenge))


def _attempt(client: Client, settings: ImapSettings, secret: str) -> tuple[str, str, bytes]:
    """Return what the server answered: its kind, its words, and a challenge that explains them."""
    user = settings.user
    if settings.oauth:
        mechanism = next((one for one in _BEARERS if client.has_capability(f"AUTH={one}")), None)
        if mechanism is None:
            raise _refused(settings, "the server offers no OAuth 2; give a password instead")
        return client.authenticate(mechanism, _bearer(mechanism, user, secret))
    disabled = client.has_capability("LOGINDISABLED")
    if disabled and settings.security == "none":
        reason = "the server takes no password in clear; use tls or starttls"
        raise InsecureError(settings.host, settings.port, reason)
    # PLAIN carries any character; LOGIN is ASCII only.
    if client.has_capability("AUTH=PLAIN"):
        return client.authenticate("PLAIN", f"\0{user}\0{secret}".encode())
    if disabled:
        raise _refused(settings, "the server takes no passwords" + _hint(client, settings, b""))
    return (*client.login(user, secret), b"")


def _bearer(mechanism: str, user: str, token: str) -> bytes:
    if mechanism == "XOAUTH2":
        return f"user={user}\1auth=Bearer {token}\1\1".encode()
    name = user.replace("=", "=3D").replace(",", "=2C")  # as in RFC 5801
    return f"n,a={name},\1auth=Bearer {token}\1\1".encode()


def _hint(client: Client, settings: ImapSettings, challenge: bytes) -> str:
    """Return what the owner should know beside the server's own words."""
    if settings.oauth:
        return f" (status {status})" if (status := _status(challenge)) else ""
    if any(client.has_capability(f"AUTH={one}") for one in _BEARERS):
        return (
            " (it offers OAuth 2 as well, without which some providers let nobody in: imap.oauth)"
        )
    return ""


def _status(challenge: bytes) -> str:
    """Return the status out of a refused token's explanation, which is JSON."""
    try:
        status = json.loads(challenge)["status"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    return status if isinstance(status, str) and re.fullmatch(r"[\w.-]{1,40}", status) else ""


def _refused(settings: ImapSettings, reason: str) -> LoginRefusedError:
    return LoginRefusedError(settings.host, settings.user, reason)
