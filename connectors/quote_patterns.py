"""How mail clients announce the mail that is answered or forwarded, in many languages.

quotequail knows Gmail's and Apple's lines in eight languages; these patterns hold what it lacks.
"""

# ruff: noqa: RUF001 - letters and marks of many scripts are meant as they stand

from __future__ import annotations

import re

# Lines such as "On … Bob wrote:" that quotequail does not know. Where no fixed word opens the
# line, a year has to stand in it, so that a line broken in two is found from its beginning.
ATTRIBUTIONS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"il .*ha scritto ?:",  # Italian
        r"(?:dnia|w dniu|użytkownik) .*(?:napisał(?:\(a\)|a)?|pisze) ?:",  # Polish
        r".*\d{4}.* napisał(?:\(a\)|a)? ?:",  # Polish, Gmail
        r"(?:den )?.*\d{4}.* skrev ?:?.*:",  # Danish, Norwegian, Swedish
        r"(?:den|på|d\.) .* skrev ?:?.*:",
        r".*\d{4}.* kirjoitti ?:",  # Finnish
        r".*\d{4}.* (?:odesílatel .* )?napsala?\(?a?\)? ?:",  # Czech
        r"(?:dňa )?.*\d{4}.* napísala?\(?a?\)? ?:",  # Slovak
        r".*ezt írta .*\d{4}.*:",  # Hungarian
        r".*\d{4}.*(?:tarihinde|şunu|şunları) .*yazd[ıi] ?:",  # Turkish
        r".*\d{4}.*(?:пишет|пише|написав|написала?|написал\(а\)) ?:",  # Russian, Ukrainian
        r".*\d{4}.* <\S+@\S+>(?: ?님이 작성)? ?[:：]",  # Russian, Japanese, Korean
        r".*\d{4}.*(?:님이 작성|写道|寫道|のメール) ?[:：]",  # East Asian
        r"în .*a scris ?:",  # Romanian
        r"(?:στις|την) .*έγραψε ?:",  # Greek
        r"missatge de .*\d{4}.*:",  # Catalan
        r"em .*escreveu ?:|.*escreveu .*\d{4}.*:|a .*\d{4}.* escreveu ?:",  # Portuguese
        r"(?:el|a) .*\d{4}.*(?:escribió|escribio|va escriure) ?:",  # Spanish
        r"le .*(?:a|à) écrit ?:",  # French
        r"(?:am|on|op|le|el|den) .*(?:schrieb|wrote|schreef|écrit|escribió|skrev)\b.*[:：]",
        r"am .*\d{4}.* hat .*geschrieben ?:",  # German, Yahoo
        # The Bat, Baltic; South Slavic; Thai, Hindi, Hebrew, Persian, Arabic
        r".*\d{4}.* (?:you wrote|schrieben sie|schriebst du|rašė|rakstīja) ?:",
        r".*\d{4}.* (?:je oseba .* napisala?|napisa(?:o|la)?(?: je)?|(?:је )?написа(?:ла|о)?) ?:",
        r".*\d{4}.*(?:เขียนว่า|ने लिखा|נכתב על ידי|כתב/ה|نوشت|كتب) ?:",
        r"kuupäev .*kirjutas .*:",  # Estonian
        r"(?:vào|pada) .*\d{4}.*(?:đã viết|menulis) ?:",  # Vietnamese, Indonesian
        r"(?:בתאריך|في|در تاریخ) .*[\d۰-۹٠-٩]{4}.*<\S+@\S+> ?(?:נוצר על ידי|نوشت)? ?:",
        r".{1,80} (?:wrote|writes|schrieb|schreibt|a écrit|ha scritto|schreef) \(.*\d{4}.*\) ?:",
        r"\*? ?.+<\S+@\S+> ?\[?\d{4}-\d\d-\d\d.*\]? ?:",  # mutt's other default
    )
)

# "Bob wrote:" is an announcement only above a quote.
NAME_ONLY = re.compile(
    r"[^\W\d_].{0,80}"
    r" (?:wrote|writes|schrieb|schreibt|a écrit|ha scritto|escribió|skrev|schreef) ?:",
    re.IGNORECASE,
)

_TITLES = (
    r"original(?:[- ]message| appointment)|(?:message|mail) (?:d['’ ]origine|original)",
    r"original-?nachricht|ursprüngliche nachricht|weitergeleitete nachricht|originalnachricht",
    r"mensaje original|mensaje reenviado|mensagem original|mensagem encaminhada",
    r"messaggio originale|messaggio inoltrato|message transféré|message réexpédié",
    r"oorspronkelijk bericht|origineel bericht|doorgestuurd bericht",
    r"wiadomość oryginalna|oryginalna wiadomość|(?:przekazana|przekazywana) wiadomość",
    r"ursprungligt meddelande|vidarebefordrat (?:meddelande|mejl)|vidarebefordrat brev",
    r"oprindelig meddelelse|videresendt (?:besked|meddelelse|e-mail|melding)|opprinnelig melding",
    r"alkuperäinen viesti|välitetty viesti|původní zpráva|přeposlaná zpráva|pôvodná správa",
    r"eredeti üzenet|továbbított üzenet|orijinal (?:mesaj|ileti)|iletilmiş (?:mesaj|ileti)",
    r"исходное сообщение|пересылаемое сообщение|пересланное сообщение|mesaj redirecționat",
    r"forwarded message|reply message|原始邮件|转发的邮件|元のメッセージ|転送メッセージ",
    r"원본 메시지|전달된 메시지",
)
_RULES = "-‐‑–—_*="  # the dashes of some clients are typographic
# "-----Original Message-----" and its like; mutt adds from whom it is.
_SEPARATOR = re.compile(
    rf"[{_RULES}]{{2,}} {{0,2}}(?:{'|'.join(_TITLES)})"
    rf"(?: (?:from|von|de) [^{_RULES}].{{0,120}}?)? {{0,2}}:?[{_RULES} ]*",
    re.IGNORECASE,
)
# What mutt and KMail put below it.
END = re.compile(
    r"-{5,}(?: end (?:of )?forwarded message -{2,}| ende der weitergeleiteten nachricht -{2,}"
    r"| fin du message transféré -{2,})?",
    re.IGNORECASE,
)
# Apple's line over a forwarded mail.
_BEGIN_FORWARDED = re.compile(
    r"(?:begin forwarded message|anfang der weitergeleiteten (?:e[-\u2011]?mail|nachricht)"
    r"|début du message (?:réexpédié|transféré)|inicio del mensaje reenviado"
    r"|inizio messaggio inoltrato|in[ií]cio da mensagem (?:reencaminhada|encaminhada)"
    r"|begin doorgestuurd bericht|vidarebefordrat brev|start på videresendt besked"
    r"|videresendt melding|początek przekazywanej wiadomości|начало переадресованного сообщения"
    r"|alku välitetylle viestille) ?:",
    re.IGNORECASE,
)
# A rule of underscores or dashes, which Outlook puts over the header lines of the answered mail.
RULE = re.compile(r"\s*(?:_{5,}|-{5,})\s*")

_LONGEST = 200  # characters of a separator

_LABELS = {
    "from": "from|von|de|da|od|van|från|fra|lähettäjä|от|от кого|від|gönderen|kimden|expéditeur"
    "|de la|feladó|από|発件人|发件人|寄件者|差出人|보낸 사람|remitente|mittente|remetente|מאת|من",
    "date": "date|sent|gesendet|datum|envoyé|envoyé le|enviado|enviado el|enviada em|fecha|data"
    "|inviato|wysłano|verzonden|skickat|sendt|dato|lähetetty|päivämäärä|отправлено|дата|надіслано"
    "|gönderildi|gönderme tarihi|tarih|发送时间|日期|送信日時|日付|보낸 날짜|odesláno|elküldve"
    "|dátum|trimis|gesendet am|enviada|date d['’]envoi|στάλθηκε|ημερομηνία|נשלח|תאריך|تم الإرسال"
    "|التاريخ|enviat el|poslano|odoslané|saadetud|изпратено|išsiųsta",
    "to": "to|an|à|a|para|per|do|komu|aan|till|til|vastaanottaja|кому|kime|alıcı|收件人|宛先"
    "|받는 사람|címzett|către|pour|destinatario|destinataire|προς|אל|إلى"
    "|per a|prima|za|adressaat|до|kam",
    "cc": "cc|kopie|copie|copia|kopia|kopi|копия|dw|másolat|ccn|cópia|bilgi|抄送|참조|bcc",
    "subject": "subject|betreff|objet|asunto|oggetto|assunto|temat|onderwerp|ämne|emne|aihe|тема"
    "|konu|主题|主題|主旨|件名|제목|předmět|tárgy|subiect|sujet|θέμα|נושא|الموضوع"
    "|tema|predmet|zadeva|teema|относно",
}
_FIELD_OF = {name: field for field, names in _LABELS.items() for name in names.split("|")}
_FIELD_OF.update({"date d'envoi": "date", "date d’envoi": "date"})
_HEADER_LINE = re.compile(r"\s*\*?([^\W\d_][^:：*@\d]{0,24}?)\s?\*?\s?[:：]\*?(.*)")


def is_separator(line: str) -> bool:
    """Tell whether a stripped line separates own words from a mail below it."""
    if len(line) > _LONGEST:
        return False
    if line[:1] in _RULES:
        return _SEPARATOR.fullmatch(line) is not None
    return line.endswith(":") and _BEGIN_FORWARDED.fullmatch(line) is not None


def header_line(line: str) -> tuple[str, str] | None:
    """Read a line of a forwarded mail's header.

    Returns:
        The field (from, date, to, cc or subject) and its value, or None for another line.
    """
    found = _HEADER_LINE.fullmatch(line) if ":" in line or "：" in line else None
    field = _FIELD_OF.get(found[1].lower()) if found else None
    return (field, found[2].strip().removesuffix("*").rstrip()) if found and field else None
