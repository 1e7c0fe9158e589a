"""Text that a machine wrote: programs, logs, tables, automatic replies, answers to invitations."""

from __future__ import annotations

import re

# ruff: noqa: RUF001 - letters and marks of many scripts are meant as they stand

CODE = "code, log or table"
AUTOMATIC = "automatic reply or calendar answer"

_FEWEST = 3  # lines that look like code
_SHARE = 3  # and one in so many lines
_WIDEST = 400  # characters of such a line; a longer one is a paragraph

# How a line begins, and how it goes on.
_BEGINS = re.compile(
    r"\s*(?:[$#>]{1,3} \S|>>> |PS [A-Z]:|[\w.-]+@[\w.-]+[:~ ].*[$#] "
    r"|def |class \w+.*:$|import \w+$|from \w+ import |#include|return\b|</?\w+[^>]*>"
    r"|(?:SELECT|INSERT INTO|UPDATE|CREATE TABLE|DELETE FROM|ALTER TABLE) "
    r"|(?:at |File \")\S+.*\d|at [\w.$]+\(|[\"'][\w .-]+[\"']\s*:|[}\]]+,?$|[-+*/|=_~#]{4,})"
    r"|Traceback \(most|(?:\+\+\+|---) \S|@@ |diff --git|[+-]\s*[\w.]+.*[({=;]"
    r"|\[?\d{4}-\d\d-\d\d[T ]\d\d:\d\d|\w{3} [ \d]\d \d\d:\d\d:\d\d |\d{1,3}(?:\.\d{1,3}){3} - "
    r"|(?:[0-9a-fA-F]{2,8}[ :]){8}|[A-Za-z0-9+/]{60,}={0,2}$"
)
_STATEMENT = re.compile(r".*[=)\]\"']\s*;|\s*(?:return\b.*|\w+|\w.*[=(].*);")
_LEVEL = re.compile(r"\b(?:DEBUG|INFO|WARN(?:ING)?|ERROR|FATAL)\b[:\] ]")
_COLUMNS = re.compile(r"\S {3,}\S.* {3,}\S|\S\t+\S+\t")
_CELLS = re.compile(r"(?<!\S)(?:[^\s,;]{1,60}[,;](?=\S)){3}")
_FEWEST_MARKS = 3  # bars or commas of a table's row
_AUTOMATIC_SUBJECT = re.compile(
    r"(?:automatic reply|auto(?:matic)?[- ]?(?:reply|response)|auto|out of (?:the )?office"
    r"|automatische antwort|abwesenheit\w*|réponse automatique|absence du bureau"
    r"|respuesta automática|fuera de (?:la )?oficina|risposta automatica|resposta automática"
    r"|automatisch antwoord|afwezig\w*|autosvar|automatiskt svar|automaattinen vastaus"
    r"|odpowiedź automatyczna|automatická odpověď|автоответ|自動応答|自动回复"
    r"|자동 회신)\s?(?:[:：]|$)",
    re.IGNORECASE,
)
_CALENDAR_SUBJECT = re.compile(
    r"(?:accepted|declined|tentative(?:ly accepted)?|cancell?ed(?: event)?|updated invitation"
    r"|zugesagt|abgesagt|mit vorbehalt|angenommen|abgelehnt|accepté|refusé|provisoire|aceptad[oa]"
    r"|rechazad[oa]|accettato|rifiutato|aceite|recusado|geaccepteerd|afgewezen|accepterat|avböjt"
    r"|accepteret|zaakceptowano|odrzucono)\s?[:：]",
    re.IGNORECASE,
)
_AUTOMATIC_TEXT = re.compile(
    r"(?im)^\W{0,3}(?:this is an auto(?:mat(?:ed|ic)|-?generated)"
    r"|this (?:e-?mail|message) (?:was|is|has been) (?:sent )?automatically"
    r"|(?:please )?do not reply to this (?:e-?mail|message)"
    r"|dies(?:e (?:e-?mail|nachricht))? (?:ist eine|wurde) automatisch"
    r"|ceci est une? (?:message|réponse|courriel) automatique"
    r"|este (?:es un|mensaje|correo) .{0,30}automátic|questo è un messaggio automatico)"
)
# Thanks for the mail and an absence; people write that too, but not what is to be done meanwhile.
_ABSENCE = re.compile(
    r"(?i)^\W{0,3}"
    r"(?:(?:dear|hello|hi|hallo|sehr geehrte|guten tag|bonjour|hola)\b.{0,60}\n\s{0,3})?"
    r"(?:thank you for your (?:e-?mail|message)|(?:vielen )?dank für (?:ihre|deine) "
    r"(?:e-?mail|nachricht)|merci (?:pour|de) votre (?:message|courriel)|gracias por su "
    r"(?:mensaje|correo)|grazie per (?:la sua|il suo) (?:e-?mail|messaggio))[.,!]?\s{0,3}.{0,80}?"
    r"(?:out of (?:the )?office|on (?:annual )?leave|on vacation|on holiday|nicht im (?:büro|haus)"
    r"|abwesend|im urlaub|absent|en congé|fuera de la oficina|de vacaciones|assente|in ferie)"
)
_MEANWHILE = re.compile(
    r"(?i)(?:limited|no|only sporadic) access|\burgent|in my absence|(?:after|as soon as|when) i"
    r" (?:am back|return)|(?:up)?on my return|not be (?:read|forwarded)|dringend|keinen zugriff"
    r"|nicht (?:gelesen|weitergeleitet)|vertretung|nach meiner rückkehr|wenn ich zurück"
    r"|\burgence|à mon retour|\burgen[tcz]|a mi regreso|al mio (?:rientro|ritorno)"
)
_CALENDAR_TEXT = re.compile(
    r"(?i)\b(?:has (?:tentatively )?(?:accepted|declined)(?: tentatively)? (?:this|the|your)"
    r" (?:invitation|meeting|event|appointment)"
    r"|hat (?:diese|die|ihre|deine|den) (?:einladung|besprechung|termin) .{0,20}"
    r"(?:angenommen|abgelehnt|zugesagt)|a (?:accepté|refusé) (?:cette|l['’]|votre) ?invitation"
    r"|ha (?:aceptado|rechazado) (?:esta|la|tu|su) invitación"
    r"|ha (?:accettato|rifiutato) (?:questo|l['’]|il tuo) ?invito)"
)


def reason(subject: str, text: str, *, addressed: bool) -> str:
    """Return why a mail is a machine's, `CODE` or `AUTOMATIC`, "" if a person wrote it.

    Args:
        subject: Its subject.
        text: Its text.
        addressed: It has a greeting or a closing. "Cancelled: rehearsal" over a letter is a
            person's; a calendar answers without either.
    """
    if _AUTOMATIC_SUBJECT.match(subject) or _AUTOMATIC_TEXT.search(text):
        return AUTOMATIC
    if _ABSENCE.search(text) and _MEANWHILE.search(text):
        return AUTOMATIC
    if not addressed and (_CALENDAR_SUBJECT.match(subject) or _CALENDAR_TEXT.search(text)):
        return AUTOMATIC
    return CODE if _is_code(text) else ""


def _is_code(text: str) -> bool:
    """Tell whether at least a third of the lines, and three, look like code, a log or a table."""
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) < _FEWEST:
        return False
    hits = sum(len(line) <= _WIDEST and _is_code_line(line.rstrip()) for line in lines)
    return hits >= _FEWEST and _SHARE * hits >= len(lines)


def _is_code_line(line: str) -> bool:
    if _BEGINS.match(line) or line[-1] in "{}" or line.count("|") >= _FEWEST_MARKS:
        return True
    if line[-1] == ";" and _STATEMENT.fullmatch(line):
        return True
    if ("   " in line or "\t" in line) and _COLUMNS.search(line):
        return True
    marks = line.count(",") + line.count(";")
    return bool((marks >= _FEWEST_MARKS and _CELLS.search(line)) or _LEVEL.search(line))
