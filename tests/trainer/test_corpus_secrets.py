"""Which secrets a text holds, and which numbers are none."""

# ruff: noqa: RUF001 - letters of many scripts are meant as they stand

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.confidential import (
    CARD,
    IBAN,
    KINDS,
    PASSWORD,
    PRIVATE_KEY,
    TOKEN,
    luhn,
    mod97,
    secret_in,
)

# Tokens are put together here, so that no scanner takes this file for a leak.
SECRETS = {
    "Visa in fours": (CARD, "Please charge 4111 1111 1111 1111, it is the studio's."),
    "Visa in one run": (CARD, "My card: 4012888888881881, valid to 09/27"),
    "Visa with hyphens": (CARD, "4111-1111-1111-1111"),
    "Mastercard": (CARD, "Nimm die 5555 5555 5555 4444."),
    "Mastercard of the 2 series": (CARD, "2223 0031 2200 3222 please"),
    "American Express": (CARD, "It is 3782 822463 10005 and the name is mine."),
    "Diners Club": (CARD, "30569309025904 is the club's"),
    "JCB": (CARD, "3530 1113 3330 0000"),
    "Discover": (CARD, "6011 1111 1111 1117"),
    "Maestro of 19 digits": (CARD, "6759 6498 2643 8453 003"),
    "Visa with its expiry date": (CARD, "4111 1111 1111 1111 12/27 123"),
    "a card by name, oddly spaced": (CARD, "Kreditkarte: 42 2222 2222 222"),
    "German IBAN with spaces": (IBAN, "Bitte auf DE89 3704 0044 0532 0130 00 überweisen."),
    "German IBAN and BIC": (IBAN, "IBAN DE89370400440532013000 BIC COBADEFFXXX"),
    "Austrian IBAN in small letters": (IBAN, "at61 1904 3002 3457 3201"),
    "British IBAN": (IBAN, "GB29 NWBK 6016 1331 9268 19, thank you"),
    "Dutch IBAN": (IBAN, "NL91ABNA0417164300"),
    "French IBAN": (IBAN, "FR14 2004 1010 0505 0001 3M02 606"),
    "Norwegian IBAN": (IBAN, "NO93 8601 1117 947."),
    "Maltese IBAN": (IBAN, "MT84 MALT 0110 0001 2345 MTLC AST0 01S"),
    "IBAN over two lines": (IBAN, "DE89 3704 0044\n0532 0130 00"),
    "OpenSSH key": (PRIVATE_KEY, "-----BEGIN OPENSSH " + "PRIVATE KEY-----\nb3BlbnNzaC1rZXk\n"),
    "RSA key": (PRIVATE_KEY, "-----BEGIN RSA " + "PRIVATE KEY-----"),
    "PGP key": (PRIVATE_KEY, "-----BEGIN PGP " + "PRIVATE KEY BLOCK-----"),
    "age key": (PRIVATE_KEY, "AGE-SECRET-" + "KEY-1QQPQQ"),
    "AWS": (TOKEN, "the id is AKIA" + "IOSFODNN7EXAMPLE"),
    "GitHub": (TOKEN, "use ghp_" + "a1B2" * 9),
    "Slack": (TOKEN, "xoxb-" + "123456789012-abcdefGHIJ"),
    "Stripe": (TOKEN, "sk_live_" + "4eC39HqLyjWDarjtT1zdp7dc"),
    "Google": (TOKEN, "AIza" + "SyA1234567890abcdefghijklmnopqrstuv"),
    "OpenAI": (TOKEN, "sk-proj-" + "abcDEF123456ghiJKL789012"),
    "JSON Web Token": (TOKEN, "eyJhbGciOiJIUzI1NiJ9" + ".eyJzdWIiOiIxMjM0In0" + ".abc123"),
    "bearer": (TOKEN, "Authorization: Bearer " + "abcdef0123456789"),
    "user and password in a link": (TOKEN, "postgres://jen:" + "kiln1240@db.example.org/pots"),
    "link that resets a password": (TOKEN, "https://example.org/r?token=" + "9f8e7d6c5b4a39281706"),
    "a meeting's link": (TOKEN, "https://meet.example/j/123?pwd=" + "Qk1xWVh6ZGZrV1Z5"),
    "a long run of letters and digits": (TOKEN, "Here: " + "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0eF"),
    "password is": (PASSWORD, "The password is tr0ub4dor&3, do not lose it."),
    "password below": (PASSWORD, "The password:\n\ncorrectHorse"),
    "a plain word behind a colon": (PASSWORD, "User: jen\nPassword: swordfish\n"),
    "Passwort": (PASSWORD, "Das Passwort lautet Ton_und_Feuer7."),
    "Kennwort": (PASSWORD, "Kennwort: glasur99"),
    "mot de passe": (PASSWORD, "Le mot de passe est B0lBleu!"),
    "contraseña": (PASSWORD, "La contraseña es barro2024"),
    "hasło": (PASSWORD, "Hasło: glina77"),
    "пароль": (PASSWORD, "Пароль: глина77"),
    "パスワード": (PASSWORD, "パスワード：neko2024"),
    "WLAN": (PASSWORD, "WLAN-Schlüssel: 0815-4711-Ton"),
    "wifi": (PASSWORD, "The wifi password is ClayAndFire"),
    "pw": (PASSWORD, "login jen, pw: k1lnRoom"),
    "API key by name": (PASSWORD, "api key: 5f4dcc3b5aa7"),
    "verification code": (PASSWORD, "Your verification code is 482913 as you asked."),
    "code first": (PASSWORD, "482913 is your Google verification code."),
    "a bare code": (PASSWORD, "The code is 482913."),
    "Bestätigungscode": (PASSWORD, "Der Bestätigungscode lautet 482 913."),
    "code de vérification": (PASSWORD, "Le code de vérification est le 482913"),
    "código": (PASSWORD, "El código de seguridad es 482913"),
    "door": (PASSWORD, "The door code is 4821# and the light is left."),
    "code for the gate": (PASSWORD, "Code for the gate: 4821"),
    "Türcode": (PASSWORD, "Der Türcode ist 4821."),
    "PIN": (PASSWORD, "The PIN is 4821."),
    "TAN": (PASSWORD, "mTAN: 482913"),
    "password for": (PASSWORD, "The password for the wifi is Clay2024."),
    "Passwort fürs": (PASSWORD, "Das Passwort fürs WLAN ist Ton2024."),
    "password in brackets": (PASSWORD, "Password (wifi): Clay2024"),
    "password, nothing between": (PASSWORD, "The wifi is KilnNet, password Clay2024"),
    "pass": (PASSWORD, "user jen / Pass: Ton123!"),
    "backup codes": (PASSWORD, "Backup codes: 1234-5678 2345-6789"),
    "code to use": (PASSWORD, "Use the code 482913 to log in."),
    "Google's code": (PASSWORD, "G-482913 is your Google verification code."),
    "use to open": (PASSWORD, "Use 4821 to open the gate."),
    "with a hash": (PASSWORD, "The key is under the pot, code 4821#"),
    "behind a colon": (PASSWORD, "Code: 4821"),
    "PIN to": (PASSWORD, "The PIN code to the house is 4821."),
    "CVV": (PASSWORD, "and the CVV is 123"),
}


@pytest.mark.parametrize(("kind", "text"), SECRETS.values(), ids=SECRETS.keys())
def test_secrets(kind: str, text: str) -> None:
    """A secret is found by its check digits or its shape, and its kind is told."""
    assert secret_in(text) == kind
    assert secret_in(f"Hi Stew,\n\nas you asked: {text}\n\nBest,\nJen") == kind


HARMLESS = {
    "nothing": "",
    "prose": "The kiln is cold now and everything in it came out well.",
    "fails Luhn": "My card was 4111 1111 1111 1112 once.",
    "fails Luhn, sixteen in a run": "The number 4111111111111112 is on the box.",
    "an order number that passes Luhn": "Order number 4539578763621486 has not come.",
    "Bestellnummer that passes Luhn": "Ihre Bestellnummer: 4539 5787 6362 1486",
    "phone": "Call me on +43 660 1234567 or 0316 12 34 56.",
    "phone, American": "+1 (555) 010-9999, or 555-010-9998 after six",
    "two phones": "0316 123456 - 0660 1234567",
    "phone, British": "If anything slips, ring the shed on 01632 960417.",
    "WhatsApp": "+4915123456789",
    "dates": "From 2024-05-01 to 2024-05-14, or 24-01-2023 25-01-2023.",
    "German dates": "am 01.05.2024, 02.05.2024 und 03.05.2024",
    "time stamps": "20240501123000 and 1714566600000",
    "ISBN": "ISBN 978-3-16-148410-0, a good book",
    "ISBN in a run": "9783161484100",
    "EAN": "The EAN is 4006381333931.",
    "UPS": "1Z 999 AA1 01 2345 6784",
    "DHL": "Sendungsnummer 00340434161094042557",
    "USPS": "9400 1000 0000 0000 0000 00",
    "IMEI": "IMEI 35-209900-176148-1",
    "UUID": "the file 123e4567-e89b-12d3-a456-426614174000",
    "commit": "fixed in 2fd4e1c67a2d28fced849ee1bb76e7391b93eb12",
    "version": "version 1.2.3.4567.8901.2345.6789",
    "money": "EUR 12,345,678,901,234.00",
    "coordinates": "47.070714, 15.439504",
    "pi": "3.14159265358979323846",
    "IBAN with a wrong digit": "DE89 3704 0044 0532 0130 01",
    "words like an IBAN": "AT10 sharp we meet at the old mill behind the station",
    "BIC": "BIC COBADEFFXXX",
    "VAT number": "ATU12345678, DE123456789",
    "licence plate": "G 123 AB, GR24 1234 5678",
    "forgotten": "I forgot my password again, can you help?",
    "wrong": "I think the password is wrong.",
    "expired": "Sorry, the password is expired. Could you set a new one?",
    "where it is": "The password is on the note below the keyboard.",
    "how it is": "Note that the password is case-sensitive.",
    "how long": "A password is to be 12 characters long.",
    "see": "Password: see the note that I left you.",
    "Passwort vergessen": "Ich habe das Passwort vergessen, es ist zu lang.",
    "password reset": "Password reset: I did it on 3 May.",
    "public key": "-----BEGIN PUBLIC KEY-----",
    "a lock": "What is the code for the lock protecting it?",
    "a secret": "The secret is to be patient, and the key to it is clay.",
    "a token": "Take it as a token of our thanks.",
    "post code": "The post code is 801034, is it not?",
    "discount": "Your discount code: 123456",
    "error": "The machine shows error code 100404.",
    "area": "The area code is 0316.",
    "dress code": "The dress code is black tie, 1930s.",
    "door, no code": "The door is open from 1000 to 1800.",
    "QR": "The QR code is 200 px wide.",
    "pin": "I need 250 pins, and a pin of 12 mm.",
    "tan": "Tan is the colour, RAL 1019.",
    "safe": "The road is safe, 1200 m up.",
    "link": "https://example.org/shop/pots?page=2&sort=price&id=1234567890123",
    "link with words": "https://example.org/the-Long-Title-of-An-Article-2024-Part-12",
    "camel": "see ThisIsAVeryLongNameOfAClassInJavaWithoutDigits",
    "address": "long.name-2024.OfSomebody.Whose.Address.Is@mail.example.org",
    "licence": "Is the licence the same for 2024 and 2025?",
    "bus pass": "My bus pass is from May 2024.",
    "password, counted": "A password of 8 to 12 characters, or a 12-character password, is best.",
    "passwords for": "The passwords for the two of us are not the same any more.",
    "a pass": "The pass is 1200 m high, and the boarding pass is B12.",
    "lines of code": "The code is 1200 lines long, the code in all 12000.",
    "a program": "The source code 100000 lines long is on the server.",
    "use": "Use 4000 g of clay to make it, and 1200 degrees to fire it.",
    "gutschein": "Gutscheincode: 482913",
}


@pytest.mark.parametrize("text", HARMLESS.values(), ids=HARMLESS.keys())
def test_numbers_and_words_that_are_no_secrets(text: str) -> None:
    """Phone, order and tracking numbers, dates, ISBNs and talk of passwords are no secrets."""
    assert secret_in(text) == ""


def _card(prefix: str, length: int, seed: int) -> str:
    digits = prefix + "".join(random.Random(seed).choices("0123456789", k=length - len(prefix) - 1))
    return next(digits + last for last in "0123456789" if luhn(digits + last))


_ISSUERS = st.sampled_from(
    [("4", 16), ("51", 16), ("55", 16), ("2221", 16), ("34", 15), ("37", 15), ("36", 14)]
)


@given(_ISSUERS, st.integers(0, 10**6), st.sampled_from(["", " ", "-"]))
def test_every_card_is_found(issuer: tuple[str, int], seed: int, gap: str) -> None:
    """Any number of an issuer that passes Luhn is a card, in one run and in the usual groups."""
    number = _card(*issuer, seed)
    sizes = {16: (4, 4, 4, 4), 15: (4, 6, 5), 14: (4, 6, 4)}[len(number)]
    groups = [number[sum(sizes[:place]) :][:size] for place, size in enumerate(sizes)]
    assert secret_in(f"It is {gap.join(groups)}.") == CARD


@given(_ISSUERS, st.integers(0, 10**6), st.integers(1, 9))
def test_a_wrong_digit_is_no_card(issuer: tuple[str, int], seed: int, other: int) -> None:
    """Luhn catches any single wrong digit."""
    number = _card(*issuer, seed)
    wrong = number[:-1] + str((int(number[-1]) + other) % 10)
    assert secret_in(f"It is {wrong}.") == ""


@given(
    st.sampled_from([("DE", 18), ("AT", 16), ("CH", 17), ("NO", 11)]),
    st.integers(0, 10**6),
    st.sampled_from(["", " ", "-"]),
)
def test_every_iban_is_found(country: tuple[str, int], seed: int, gap: str) -> None:
    """Any IBAN whose check digits are right is found, however it is grouped."""
    code, length = country
    account = "".join(random.Random(seed).choices("0123456789", k=length))
    check = 98 - int("".join(str(int(char, 36)) for char in f"{account}{code}00")) % 97
    iban = f"{code}{check:02}{account}"
    assert mod97(iban)
    shown = gap.join(re.findall(".{1,4}", iban))
    assert secret_in(f"Bitte an {shown}, danke.") == IBAN
    wrong = f"{code}{(check - 1) % 97 + 2:02}{account}"
    assert secret_in(f"Bitte an {wrong}, danke.") != IBAN


@given(st.text(max_size=300))
def test_any_text_is_looked_through(text: str) -> None:
    """Any text gets an answer."""
    assert secret_in(text) in {"", *KINDS}


@pytest.mark.parametrize(
    "piece",
    [
        " 3704",
        "DE89",
        "4111-",
        "4",
        "password: ",
        "token=",
        "code ",
        "aB1",
        "a_",
        "://a:",
        "1 is the ",
    ],
)
def test_texts_that_are_made_to_be_slow(piece: str) -> None:
    """What nearly is a secret, over and over, is looked through without going back each time."""
    assert secret_in(piece * (100_000 // len(piece))) in {"", *KINDS}
