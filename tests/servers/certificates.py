"""Certificates for servers on loopback, made by the openssl command.

    authority = Authority(tmp_path)          # authority.certificate is what a client trusts
    authority.leaf("good")                   # Leaf(certificate, key) for localhost and 127.0.0.1
    authority.leaf("expired", days=-1)
    authority.leaf("elsewhere", hosts=["imap.example.org"])
    self_signed(tmp_path)                    # trusted by nobody, or by who trusts itself

`Leaf.context()` is the server's side of TLS for sockets in Python. All live for two days.
"""

from __future__ import annotations

import ipaddress
import ssl
import subprocess
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from needs import need_command

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

LOOPBACK = ("localhost", "127.0.0.1")

_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True)
class Leaf:
    """A server's certificate and its key, in PEM.

    Attributes:
        certificate: The file of the certificate.
        key: The file of the key.
    """

    certificate: Path
    key: Path

    def context(self, *, old: bool = False) -> ssl.SSLContext:
        """Return a context for a server that shows this certificate; an old one knows TLS 1.1."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        if old:
            context.set_ciphers("ALL:@SECLEVEL=0")
            with warnings.catch_warnings(action="ignore"):  # they say that it is old
                context.minimum_version = ssl.TLSVersion.TLSv1
                context.maximum_version = ssl.TLSVersion.TLSv1_1
        return context


class Authority:
    """A certificate authority of its own.

    Args:
        folder: Where its files and those of its leaves go; made if missing.

    Attributes:
        certificate: What a client must trust.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.certificate, self._key = folder / "authority.pem", folder / "authority.key"
        _openssl(
            *("req", "-x509", *_NEW_KEY, "-days", 2, "-subj", "/CN=Authority for tests"),
            *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
            *("-keyout", self._key, "-out", self.certificate),
        )

    def leaf(self, name: str, *, hosts: Iterable[str] = LOOPBACK, days: int = 2) -> Leaf:
        """Make a certificate.

        Args:
            name: The name of its files.
            hosts: The names and addresses it is for.
            days: How long it lives; -1 makes one that ended yesterday.
        """
        made = Leaf(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        request, extensions = self._folder / f"{name}.csr", self._folder / f"{name}.ext"
        extensions.write_text(
            f"subjectAltName={_alternatives(hosts)}\nauthorityKeyIdentifier=keyid\n"
            "basicConstraints=critical,CA:FALSE\nextendedKeyUsage=serverAuth\n",
            encoding="ascii",
        )
        subject = ("-subj", f"/CN={name}")
        _openssl("req", "-new", *_NEW_KEY, *subject, "-keyout", made.key, "-out", request)
        _openssl(
            *("x509", "-req", "-in", request, "-extfile", extensions, "-days", days),
            *("-CA", self.certificate, "-CAkey", self._key, "-out", made.certificate),
        )
        return made


def self_signed(folder: Path, *, hosts: Iterable[str] = LOOPBACK) -> Leaf:
    """Make a certificate that vouches for itself, as ``cert.pem`` and ``key.pem``."""
    folder.mkdir(parents=True, exist_ok=True)
    made = Leaf(folder / "cert.pem", folder / "key.pem")
    _openssl(
        *("req", "-x509", *_NEW_KEY, "-days", 2, "-subj", "/CN=localhost"),
        *("-addext", f"subjectAltName={_alternatives(hosts)}"),
        *("-keyout", made.key, "-out", made.certificate),
    )
    return made


def _alternatives(hosts: Iterable[str]) -> str:
    return ",".join(f"{'IP' if _is_address(host) else 'DNS'}:{host}" for host in hosts)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _openssl(*words: object) -> None:
    command = [need_command("openssl"), *map(str, words)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)  # noqa: S603
