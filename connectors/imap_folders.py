r"""Which of a server's folders is Sent, which is Drafts, which holds the requests.

The owner's word comes first, then the server's (SPECIAL-USE, RFC 6154), then the names that mail
programs give these folders in their users' languages.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from connectors.base import REQUESTS_FOLDER, Role

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

DEFAULT_NAMES: Final = {
    Role.SENT: "Sent",
    Role.DRAFTS: "Drafts",
    Role.REQUESTS: REQUESTS_FOLDER,
}
"""What a folder is called that Panza makes."""

_SPECIAL_USE = {Role.SENT: "\\sent", Role.DRAFTS: "\\drafts"}
_OTHER_USES = {"\\all", "\\archive", "\\flagged", "\\important", "\\junk", "\\trash"}
_UNSELECTABLE = {"\\noselect", "\\nonexistent"}

# English first, for it is the name of last resort everywhere; then as Thunderbird, Outlook,
# Apple Mail, Gmail and the larger providers call them. The order decides between two matches.
_KNOWN_NAMES = {
    Role.SENT: (
        *("Sent", "Sent Items", "Sent Messages", "Sent Mail", "Sent-mail", "Outbox sent"),
        *("Gesendet", "Gesendete Elemente", "Gesendete Objekte", "Gesendete Nachrichten"),
        *("Envoyés", "Éléments envoyés", "Messages envoyés", "Courrier envoyé", "Objets envoyés"),
        *("Enviados", "Elementos enviados", "Mensajes enviados", "Correo enviado", "Enviadas"),
        *("Itens enviados", "Mensagens enviadas", "E-mails enviados", "Enviats"),
        *("Inviata", "Inviati", "Posta inviata", "Elementi inviati", "Messaggi inviati"),
        *("Verzonden", "Verzonden items", "Verzonden berichten", "Verzonden objecten"),
        *("Wysłane", "Elementy wysłane", "Wysłana poczta", "Odeslané", "Odeslaná pošta"),
        *("Odoslané", "Odoslaná pošta", "Poslano", "Poslane stavke", "Poslani predmeti"),
        *("Skickat", "Skickade", "Skickade objekt", "Skickade meddelanden"),
        *("Sendt", "Sendt post", "Sendte elementer", "Sendte meldinger", "Sendte elementer"),
        *("Lähetetyt", "Lähetetyt viestit", "Saadetud", "Nosūtītie", "Išsiųsti"),
        *("Elküldött", "Elküldött elemek", "Elküldött üzenetek", "Trimise", "Elemente trimise"),
        *("Gönderilmiş", "Gönderilmiş Öğeler", "Gönderilmiş Postalar", "Απεσταλμένα"),
        *("Отправленные", "Надіслані", "Изпратени", "Послато"),
        *("送信済み", "送信済みアイテム", "送信済みメール", "보낸편지함", "보낸 편지함"),
        *("已发送", "已发送邮件", "已傳送郵件", "寄件備份", "寄件匣"),
    ),
    Role.DRAFTS: (
        *("Drafts", "Draft", "Draft Messages"),
        *("Entwürfe", "Entwurf", "Brouillons", "Brouillon"),
        *("Borradores", "Esborranys", "Rascunhos", "Bozze", "Bozza"),
        *("Concepten", "Kopie robocze", "Wersje robocze", "Szkice", "Koncepty", "Rozepsané"),
        *("Skice", "Osnutki", "Utkast", "Kladder", "Kladde", "Luonnokset", "Mustandid"),
        *("Melnraksti", "Juodraščiai", "Piszkozatok", "Schițe", "Ciorne", "Taslaklar", "Πρόχειρα"),
        *("Черновики", "Чернетки", "Чернови", "Недовршено"),
        *("下書き", "임시보관함", "임시 보관함", "草稿", "草稿箱", "草稿匣"),
    ),
}


@dataclass(frozen=True, slots=True)
class Folder:
    r"""A folder as LIST shows it.

    Attributes:
        name: Its whole name, decoded.
        delimiter: What stands between the levels of names, "" where there are no levels.
        attributes: In small letters, for example ``\sent`` or ``\noselect``.
    """

    name: str
    delimiter: str
    attributes: frozenset[str]

    @property
    def selectable(self) -> bool:
        """Whether it can hold messages."""
        return not self.attributes & _UNSELECTABLE


def find(role: Role, wanted: str | None, folders: Iterable[Folder], prefix: str) -> str | None:
    """Return the name of the role's folder on the server, None where it has none.

    Args:
        role: What the folder is for.
        wanted: The owner's name for it, None to look for it. It is understood without the prefix
            of the personal namespace too, and with "/" between levels.
        folders: All folders of the server.
        prefix: The prefix of the personal namespace, for example ``INBOX.``.
    """
    selectable = [folder for folder in folders if folder.selectable]
    if wanted is None and role is Role.REQUESTS:
        wanted = REQUESTS_FOLDER
    if wanted is not None:
        return _named(wanted, selectable, prefix)
    for folder in selectable:
        if _SPECIAL_USE[role] in folder.attributes:
            return folder.name
    # Gmail's "All Mail" holds what is in Sent as well, and whatever others sent.
    return _known(role, [one for one in selectable if not one.attributes & _OTHER_USES])


def new_name(role: Role, wanted: str | None, folders: Sequence[Folder], prefix: str) -> str:
    """Return the whole name for a folder that is to be made, inside the personal namespace."""
    name = _leveled(wanted or DEFAULT_NAMES[role], folders)
    return name if name.startswith(prefix) else prefix + name


def usual_prefix(folders: Sequence[Folder]) -> str:
    """Guess the personal namespace's prefix where the server does not tell (no NAMESPACE).

    Where every folder lies below INBOX, so must a new one.
    """
    others = [folder for folder in folders if folder.name.upper() != "INBOX"]
    prefixes = {folder.name[: 5 + len(folder.delimiter)] for folder in others}
    if len(prefixes) == 1 and others[0].delimiter:
        prefix = prefixes.pop()
        if prefix.upper() == "INBOX" + others[0].delimiter:
            return prefix
    return ""


def _named(wanted: str, folders: Sequence[Folder], prefix: str) -> str | None:
    if wanted.upper() == "INBOX":  # the one name whose case does not matter
        return "INBOX"
    names = {_normal(folder.name): folder.name for folder in folders}
    leveled = _leveled(wanted, folders)
    attempts = (wanted, prefix + wanted, leveled, prefix + leveled)
    return next((names[_normal(name)] for name in attempts if _normal(name) in names), None)


def _leveled(name: str, folders: Sequence[Folder]) -> str:
    delimiter = next((folder.delimiter for folder in folders if folder.delimiter), "/")
    return name.replace("/", delimiter)


def _known(role: Role, folders: Sequence[Folder]) -> str | None:
    ranks = {_key(name): rank for rank, name in reversed(list(enumerate(_KNOWN_NAMES[role])))}
    matches = [folder for folder in folders if _key(_leaf(folder)) in ranks]
    # Nearer to the top is more likely the owner's own than somebody's shared folder.
    best = min(
        matches, key=lambda folder: (_depth(folder), ranks[_key(_leaf(folder))]), default=None
    )
    return best.name if best else None


def _leaf(folder: Folder) -> str:
    return folder.name.rsplit(folder.delimiter, 1)[-1] if folder.delimiter else folder.name


def _depth(folder: Folder) -> int:
    return folder.name.count(folder.delimiter) if folder.delimiter else 0


def _normal(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _key(name: str) -> str:
    return _normal(name).casefold()
