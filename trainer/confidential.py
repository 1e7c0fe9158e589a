"""Secrets in a text: card numbers, IBANs, private keys, tokens, passwords and one-time codes.

A model may repeat what it learned, and a draft what it was shown. So a mail with a secret is no
training target, and no prompt shows it. What is told here is told by its check digits or by its
shape; of the rest, a number is harmless until something says otherwise: phone numbers, dates,
order and tracking numbers, ISBNs and IMEIs are no secrets.
"""

# ruff: noqa: RUF001 - letters and marks of many scripts are meant as they stand

from __future__ import annotations

import re
from typing import Final

CARD: Final = "card number"
IBAN: Final = "IBAN"
PRIVATE_KEY: Final = "private key"
TOKEN: Final = "API key or token"  # noqa: S105 - the name of a kind
PASSWORD: Final = "password or code"  # noqa: S105 - the name of a kind
KINDS: Final = (CARD, IBAN, PRIVATE_KEY, TOKEN, PASSWORD)


def secret_in(text: str) -> str:
    """Return the kind of a secret in ``text``, one of `KINDS`, "" if there is none."""
    # What a secret has is looked for first: nearly no mail has any, and there are many mails.
    lowered = text.lower()
    digits = _DIGIT.search(text) is not None
    if any(part in text for part in _KEY_PARTS) and _PRIVATE_KEY.search(text):
        return PRIVATE_KEY
    if digits and _holds_iban(text):
        return IBAN
    if digits and _LONG_NUMBER.search(text) and _holds_card(text):
        return CARD
    if _holds_token(text, lowered):
        return TOKEN
    named = any(name in lowered for name in _NAMES) and _holds_password(text)
    coded = digits and any(name in lowered for name in _CODE_NAMES) and _holds_code(text)
    return PASSWORD if named or coded else ""


_DIGIT = re.compile(r"\d")

# --- card numbers -----------------------------------------------------------------------------

# Digits in one run or in the groups that cards are printed in, one kind of gap throughout.
_CARD = re.compile(
    r"(?<![\d+])(?<!\d[.,-])(?:\d{4}([ .–-])\d{4}\1\d{4}\1\d{1,4}(?P<fifth>\1\d{1,3})?"
    r"|\d{4}(?P<gap>[ .–-])\d{6}(?P=gap)\d{4,5}|\d{14,19})(?!\d)"
)
# Any grouping does where the text calls it a card.
_LONG_NUMBER = re.compile(r"(?<![\d+])\d(?:[ .–-]?\d){12,18}(?!\d)")
_CALLED_CARD = re.compile(
    r"(?:\b(?:credit|debit|bank|visa|master|kredit|bankomat|giro)? ?-?(?:card|karte)\b|kartennummer"
    r"|\bvisa\b|mastercard|\bamex\b|american express|maestro|\bcarte\b|tarjeta|carta di credito"
    r"|cartão|kreditkort|kredietkaart|\bkart[ay]\b|\bcvv\b|\bcvc\b|номер карты|カード番号|卡号)",
    re.IGNORECASE,
)
_CALLED_ELSE = re.compile(
    r"(?:order|tracking|shipment|parcel|invoice|reference|ticket|booking|serial|imei|isbn|ean|article"
    r"|item|customer|case|bestell|auftrags?|sendungs?|rechnungs?|artikel|kunden|buchungs?"
    r"|commande|suivi|facture|pedido|seguimiento|factura|ordine|spedizione|fattura)"
    r"[ -]?(?:no|nr|num(?:ber|mer|éro|ero)?|id|code)?\b[^\d\n]{0,20}$",
    re.IGNORECASE,
)
_NEAR = 60  # characters before a number in which its name may stand
# Issuers by their first digits, with the lengths they use (ISO/IEC 7812): Visa, Mastercard,
# American Express, Diners Club, JCB, then Discover, UnionPay and Maestro, and Mir.
_ISSUED = re.compile(
    r"4(?:\d{15}|\d{18})|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}"
    r"|3[47]\d{13}|3(?:0[0-5]|[689]\d)\d{11}|35(?:2[89]|[3-8]\d)\d{12,15}"
    r"|(?:50|5[6-9]|6\d)\d{14,17}|220[0-4]\d{12}"
)


def _holds_card(text: str) -> bool:
    for match in _CARD.finditer(text):
        before = text[max(0, match.start() - _NEAR) : match.start()]
        if _is_card(match) and (_CALLED_CARD.search(before) or not _CALLED_ELSE.search(before)):
            return True
    return any(
        luhn(re.sub(r"\D", "", match[0]))
        and _CALLED_CARD.search(text[max(0, match.start() - _NEAR) : match.start()])
        for match in _LONG_NUMBER.finditer(text)
    )


def _is_card(match: re.Match[str]) -> bool:
    # A fifth group ends a card of 19 digits, or is the expiry date behind one of 16.
    readings = (match[0], match[0].removesuffix(match["fifth"] or ""))
    numbers = (re.sub(r"\D", "", reading) for reading in readings)
    return any(_ISSUED.fullmatch(number) and luhn(number) for number in numbers)


def luhn(digits: str) -> bool:
    """Check the last digit of a card number (ISO/IEC 7812-1)."""
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (sum(doubled) + sum(int(digit) for digit in digits[::-2])) % 10 == 0


# --- IBANs ------------------------------------------------------------------------------------

# Countries and the lengths of their IBANs (the registry of ISO 13616).
_REGISTRY = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 "
    "DK18 DO28 EE20 EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 "
    "IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 "
    "MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 SC31 "
    "SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30"
)
_LENGTHS = {entry[:2]: int(entry[2:]) for entry in _REGISTRY.split()}
_IBAN_START = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}[0-9]{2}(?=[ .-]?[A-Za-z0-9])")
_IBAN_END = re.compile(r"(?:[ \n.-]?[A-Za-z0-9]){10,30}")
_IBAN_DIGITS = 10  # at least; more than any words that begin like one


def _holds_iban(text: str) -> bool:
    for match in _IBAN_START.finditer(text):
        length = _LENGTHS.get(match[0][:2].upper())
        rest = _IBAN_END.match(text, match.end())
        if length and rest:
            found = re.sub(r"[^A-Za-z0-9]", "", match[0] + rest[0])[:length].upper()
            if len(found) == length and mod97(found):
                return sum(map(str.isdigit, found)) >= _IBAN_DIGITS
    return False


def mod97(iban: str) -> bool:
    """Check an IBAN (ISO 13616): the number it spells leaves 1 when divided by 97."""
    return int("".join(str(int(char, 36)) for char in iban[4:] + iban[:4])) % 97 == 1


# --- keys and tokens --------------------------------------------------------------------------

_KEY_PARTS = ("PRIVATE KEY", "PuTTY", "AGE-SECRET", "PrivateKey")
_PRIVATE_KEY = re.compile(
    r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----|PuTTY-User-Key-File|AGE-SECRET-KEY-1"
    r"|\bPrivateKey\s*=\s*[A-Za-z0-9+/]{43}="
)
_TOKEN = re.compile(
    r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"  # AWS
    r"|\bgh[pousr]_[A-Za-z0-9]{30,}|\bgithub_pat_\w{30,}|\bglpat-[\w-]{16,}"
    r"|\bxox[abeoprs]-[\w-]{10,}|hooks\.slack\.com/services/T\w+"
    r"|\b[rs]k_(?:live|test)_\w{16,}|\bwhsec_\w{16,}"  # Stripe
    r"|\bAIza[\w-]{35}|\bya29\.[\w-]{20,}"  # Google
    r"|\bsk-(?:ant-|proj-)?[\w-]{20,}|\bhf_[A-Za-z0-9]{20,}|\bnpm_[A-Za-z0-9]{30,}"
    r"|\bpypi-[\w-]{40,}|\bSG\.[\w-]{16,}\.[\w-]{16,}|\bdop_v1_[0-9a-f]{40,}|\bkey-[0-9a-f]{32}\b"
    r"|\b\d{8,10}:AA[\w-]{30,}|\bAccountKey=[\w+/]{40,}"
    r"|\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]*"  # a JSON Web Token
    r"|\b[a-z][a-z0-9+.-]{1,20}://[^\s/:@]{1,100}:[^\s/@]{1,100}@"  # user and password in a link
    r"|[?&](?i:(?:access_?|auth_?|reset_?)?token|api_?key|key|secret|sig|signature|passw(?:or)?d"
    r"|pwd)=[\w%.~+/-]{12,}"
    # A long run of letters of both cases and digits, outside of links.
    r"|(?<![\w/@.=+?&%#-])(?=[\w-]*[a-z])(?=[\w-]*[A-Z])(?=[\w-]*\d)[A-Za-z0-9_-]{32,200}"
    r"(?![\w/@.=+%-])"
)

_LONG = 16
_BEARER = re.compile(r"\bauthorization: *(?:bearer|basic|token) +\S{8,}")


def _holds_token(text: str, lowered: str) -> bool:
    long_words = " ".join(word for word in text.split() if len(word) >= _LONG)
    if long_words and _TOKEN.search(long_words):
        return True
    return "authorization" in lowered and _BEARER.search(lowered) is not None


# --- passwords and codes ----------------------------------------------------------------------

# What the two searches below need; the words of `_NAMED` and of `_SECRET_CODE` in short. One by one
# they are looked for ten times as fast as together in a pattern.
_NAMES = (
    *("pass", "pw", "kennwort", "mdp", "contrase", "clave", "senha", "wachtwoord", "haslo"),
    *("hasło", "heslo", "lösenord", "kode", "salasana", "jelszó", "parola", "şifre", "пароль"),
    *("密", "パスワード", "비밀", "schlüssel", "key", "secret", "token", "fi code", "fi-code"),
    *("lan", "clé", "recovery", "backup"),
)
_CODE_NAMES = (
    *("code", "código", "codice", "kod", "pin", "puk", "tan", "otp", "cv", "passw", "combination"),
    *("#", "*", "use ", "enter ", "type ", "dial "),
)

_NAME = (
    r"(?i:(?<![\w-])(?:pass(?:word|code|phrase|wd|wort|ord|(?=\s?[:=]))|kennwort|pwd?|mot de passe"
    r"|mdp|contrase[nñ]a|clave|senha|palavra-passe|wachtwoord|has[lł]o|heslo|lösenord|kodeord"
    r"|adgangskode|salasana|jelszó|parola|şifre|пароль|wi-?fi[ -](?:key|code|password)"
    r"|w-?lan[ -]?(?:schlüssel|key|code|passwort)|clé wi-?fi"
    r"|(?:api|access|secret|licen[cs]e)[ -]?key|(?:client|shared) secret|token"
    r"|lizenzschlüssel|(?:recovery|backup) (?:codes?|keys?))"
    r"|密码|密碼|パスワード|비밀번호)"
)
_NAMED = re.compile(
    _NAME + r"(?i: \([^)\n]{0,20}\)"
    r"| (?:for|to|of|für|fürs|zum|zur|vom|pour|de|du|para|per|voor|do)\b[^\n.:=?!\d]{0,30}?)?"
    r"(?P<sign>\s*[:：=]\s*|\s+(?i:is(?: now)?|are|ist|lautet|est|es|é|è|to|auf)\s*:?\s+)"
    r"[\"'`“„«*]{0,2}(?P<value>[^\s\"'`”“»]{4,80})(?P<rest>[^\n]*)"
)
# "password k1lnRoom", with nothing between.
_FOLLOWED = re.compile(_NAME + r" (?=\S*\d)(?=\S*[^\W\d_])(?!\d+-?[^\W\d_]+\b)\S{6,80}(?!\S)")
_SYMBOL = re.compile(r"\w[!@#$%^&*+=~<>?|\\\[\](){}]+\w|\w[@#$%^&*+=~]+$")
_TURN = re.compile(r"[a-z][A-Z]")


def _holds_password(text: str) -> bool:
    return bool(_FOLLOWED.search(text)) or any(map(_is_password, _NAMED.finditer(text)))


def _is_password(match: re.Match[str]) -> bool:
    value, sign = match["value"].rstrip(".,;:!?*"), match["sign"].strip()
    if "://" in value or len(value) < 4:  # noqa: PLR2004 - as the pattern says
        return False
    if any(map(str.isdigit, value)) or _SYMBOL.search(match["value"]) or _TURN.search(value):
        return True
    # A plain word is a password where nothing else stands behind the colon.
    on_its_line = "\n" not in match["sign"] and not match["rest"].strip()
    return sign[:1] in {":", "：", "="} and on_its_line


_DIGITS = r"(?<![\d.,])(?:\d{4,10}|\d{3}[ -]\d{3})(?:#|\*)?(?![\d%]|[.,:]\d| ?(?:€|\$|eur|km|m)\b)"
_SECRET_CODE = re.compile(
    r"\b(?:one[- ]?time|verification|security|log-?in|sign[- ]?in|access|confirmation|unlock"
    r"|authenticat(?:ion|or)|2fa|two[- ]factor|otp|door|gate|alarm|entry|entrance|lock(?:box)?|safe"
    r"|key ?(?:box|safe)|garage|bestätigungs|sicherheits|zugangs|tür|tor|alarm|einmal|tresor"
    r"|freischalt|anmelde)[- ]?(?:code|passcode|password|passwort|kod|combination)\b"
    rf"[^\d\n]{{0,30}}{_DIGITS}"
    r"|\b(?:code|código|codice|kod)(?: de| di| d['’]| for| für| of| do| til)?"
    r"(?: the| la| die| das| den| my| our| le)? ?(?:vérification|sécurité|confirmation|accès|porte"
    r"|portail|verificación|seguridad|acceso|verifica|sicurezza|accesso|door|gate|safe|alarm|lock"
    rf"|garage|tür|tor|haustür|garten|weryfikacyjny|drzwi)\b[^\d\n]{{0,20}}{_DIGITS}"
    r"|\b(?:pin|puk|m?tan|otp|cvv2?|cvc2?)(?:[- ]?(?:code|number|nummer))?\b"
    r"(?: (?:for|to|of|für|zum|zur|vom)\b[^\d\n:]{0,30})?(?: is| ist| lautet)?\s?[:=]?\s?"
    r"(?:\d{3,8}|\d[ -]\d[ -]\d[ -]\d)\b(?![.,:/]\d|[ -]?\d)"
    r"|(?:\b[A-Z]-|(?<![\d.,+/-]))\d{4,8} (?:is|ist|est|es|è) (?:your|the|ihr|dein|der|votre|su|il)"
    r"\b.{0,40}\b(?:code|código|codice|pin)\b"
    r"|\b(?:code|door|gate|alarm|safe|tür|tor)\b[^\d\n]{0,12}\d{4,8}[#*]"
    r"|\b(?:use|enter|type|dial) (?:the )?(?:code )?\d{4,8}[#*]? (?:to|and) (?:open|unlock|enter"
    r"|get in|confirm|log|sign|verify)",
    re.IGNORECASE,
)
# Behind a colon a few digits do; in a sentence it takes as many as one-time codes have.
_BARE_CODE = re.compile(
    r"(?<![^\W\d_])(?P<before>[^\W\d_]{0,20})[ -]?\b(?:code|código|codice)"
    r"(?: ?[:=] ?\d{4,8}|(?: is| ist| lautet| est| es| è)?:? \d{6,8})\b(?![.,:/-]?\d)",
    re.IGNORECASE,
)
_HARMLESS = re.compile(
    r"(?:post(?:al|e)?|zip|area|country|dial(?:l?ing)?|error|promo(?:tion)?|discount|coupon|voucher"
    r"|gift|order|product|item|article|track(?:ing)?|booking|reference|bar|qr|sort|tax|colou?r"
    r"|course|exit|status|source|customer|project|vorwahl|rabatt|artikel|gutschein|projekt)",
    re.IGNORECASE,
)


def _holds_code(text: str) -> bool:
    if _SECRET_CODE.search(text):
        return True
    return any(not _HARMLESS.fullmatch(match["before"]) for match in _BARE_CODE.finditer(text))
