"""What clients and companies put below a mail: "Sent from my iPhone", advertisements, disclaimers.

None of it is the writer's own words. Each is a paragraph at the end of a text; in the midst of one
the same words are left alone.
"""

# ruff: noqa: RUF001 - letters and marks of many scripts are meant as they stand

from __future__ import annotations

import re

MAX_LINES = 25  # of one such paragraph

_DEVICES = (
    r"(?<![a-z])(?:iphone|ipad|ios|android|mobile|handy|smartphone|phone|outlook|samsung|galaxy"
    r"|blackberry|gmx|web\.de|fairphone|proton ?mail|yahoo|windows|thunderbird|k-9|fairemail"
    r"|m[oó]vil)"
)
_LINK = r"(?: ?<?https?://\S+>?)?"
_LINE = re.compile(
    r"(?:(?:sent|written|typed) (?:from|with|via|using|on)|gesendet (?:von|mit|aus|über)"
    r"|envoyé (?:de|avec|à partir|via)|enviado (?:desde|do|de|a partir|con)|inviato (?:da|con)"
    r"|(?:verzonden|verstuurd) (?:van(?:af)?|met|via)|skickat (?:från|via)|sendt (?:fra|via)"
    r"|wysłan[eoy] (?:z|za)|отправлено (?:с|из)|надіслано (?:з|із)|lähetetty|odesláno z"
    r"|elküldve|trimis d(?:e|in)|enviat des|στάλθηκε από|נשלח מ|تم الإرسال من)"
    rf".{{0,40}}{_DEVICES}.{{0,60}}"
    rf"|(?:diese nachricht wurde )?von meine[mr] .{{0,40}}{_DEVICES}.{{0,40}} gesendet\.?"
    rf"|.{{0,8}}{_DEVICES}.{{0,12}}(?:から送信|发送|發送|传送|傳送|에서 보냄|gönderildi|küldve)\W?"
    rf"|(?:发自|發自).{{0,8}}{_DEVICES}.{{0,12}}"
    r"|(?:get|holen sie sich|téléchargez|télécharger|obtener|obter o|ottieni|scarica|download"
    r"|hämta|hent|pobierz|获取) (?:outlook|yahoo mail|proton mail|bluemail) (?:for|für|pour|para"
    rf"|per|voor|dla|til|från) .{{0,20}}?{_LINK}"
    rf"|outlook (?:für|voor) (?:ios|android){_LINK}(?: (?:beziehen|downloaden))?"
    r"|virus-free\. ?(?:www\.\S+)?|virenfrei\. ?(?:www\.\S+)?|sans virus\. ?(?:www\.\S+)?",
    re.IGNORECASE,
)
# "Please consider the environment before printing", and the scanner's word on viruses.
_ENVIRONMENT = re.compile(
    r"environment|umwelt|environnement|ambiente|milieu|milj|planet|trees?\b", re.IGNORECASE
)
_BEFORE_PRINTING = re.compile(
    r"before (?:you )?print|(?:bevor|ehe) sie .{0,30}drucken|vor dem (?:aus)?druck"
    r"|avant d[’']imprimer|prima di stampare|antes de imprimi|voordat u .{0,30}(?:print|afdruk)"
    r"|really need to print|innan du skriver ut|før du (?:skriver ut|udskriver|printer)",
    re.IGNORECASE,
)
_SCANNED = re.compile(
    r"(?:this|diese|cet?|este|questa) (?:e-?mail|message|nachricht|courriel|mensaje|correo)\b"
    r".{0,60}\b(?:virus|viren|antivirus|avast|mcafee|norton)\b.{0,80}",
    re.IGNORECASE,
)
_SHORT = 250  # characters that an advice has at most
# A disclaimer names whom the mail is for, and two of: secrecy, this mail, what to do with it.
_ADDRESSEE = re.compile(
    r"(?:intended (?:recipient|addressee|solely|only|exclusively|for the)|the addressee"
    r"|richtige[rn]? (?:adressat|empfänger)|(?:bestimmte|vorgesehene)[nr]? (?:adressat|empfänger)"
    r"|ausschließlich für|destinataires?\b|destinatari[oa]s?\b|geadresseerde|ontvanger"
    r"|adresat|mottagare|modtager|mottaker|адресат|получател)",
    re.IGNORECASE,
)
_SECRECY = re.compile(
    r"confiden|privileged|vertraulich|geschützt|riservat|vertrouwelijk|poufn|fortrolig"
    r"|konfidentiell|конфиденциальн",
    re.IGNORECASE,
)
_THIS_MAIL = re.compile(
    r"(?:this|the) (?:e-?mail|message|communication|transmission)"
    r"|diese[rs]? (?:e-?mail|mail|nachricht)|ce (?:message|courriel|mail)"
    r"|est[ea] (?:mensaje|correo|e-?mail|mensagem)|quest[oa] (?:messaggio|e-?mail)"
    r"|d(?:it|eze) (?:bericht|e-?mail)|(?:niniejsza|ta) wiadomość|det(?:ta|te) (?:e-?mail|med)",
    re.IGNORECASE,
)
_REMEDY = re.compile(
    r"notify|delete|destroy|prohibited|informieren|vernichten|löschen|détruire|supprim"
    r"|avertir|elimin|borre|notifi|avvis|cancell|apag|verwijder|usun|radera|slett|slet\b"
    r"|удалит",
    re.IGNORECASE,
)
_LONG = 100  # characters that a disclaimer has at least
_TOO_LONG = 4000
_RULE = re.compile(r"\s*[_*=~-]{3,}\s*")


def cut(text: str) -> str:
    """Return text without such paragraphs, and rules above them, at its end."""
    lines = text.split("\n")
    end = _text_end(lines, len(lines))
    while end:
        start = _last_paragraph(lines, end)
        found = _LINE.fullmatch(lines[end - 1].strip()) is not None
        if found:
            start = end - 1
        elif not is_footer(" ".join(map(str.strip, lines[start:end]))):
            break
        end = _text_end(lines, start)
        if end and not found and _RULE.fullmatch(lines[end - 1]):
            end = _text_end(lines, end - 1)
    return "\n".join(lines[:end])


def is_footer(paragraph: str) -> bool:
    """Tell whether a paragraph, on one line, is a disclaimer or an advice about printing."""
    if len(paragraph) <= _SHORT and _ENVIRONMENT.search(paragraph):
        if _BEFORE_PRINTING.search(paragraph):
            return True
    elif _SCANNED.fullmatch(paragraph):
        return True
    if not _LONG <= len(paragraph) <= _TOO_LONG or not _ADDRESSEE.search(paragraph):
        return False
    return sum(bool(one.search(paragraph)) for one in (_SECRECY, _THIS_MAIL, _REMEDY)) > 1


def _text_end(lines: list[str], end: int) -> int:
    while end and not lines[end - 1].strip():
        end -= 1
    return end


def _last_paragraph(lines: list[str], end: int) -> int:
    start = end
    while start and end - start < MAX_LINES and lines[start - 1].strip():
        if start < end and _RULE.fullmatch(lines[start - 1]):
            break
        start -= 1
    return start
