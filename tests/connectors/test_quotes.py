"""Own words and others' words, for the formats that mail clients write."""

# ruff: noqa: RUF001 - letters and marks of many scripts are meant as they stand

import pytest

from connectors import quotes

QUOTE = "> Shall we meet on Friday?\n> \n> Bob"
ASKED = "Shall we meet on Friday?\n\nBob"

ATTRIBUTIONS = {
    "gmail en": "On Mon, Apr 3, 2023 at 10:12 AM Bob Ross <bob@example.org> wrote:",
    "gmail en, two lines": "On Mon, Apr 3, 2023 at 10:12 AM Bob Ross of the Painters\n"
    "<bob@example.org> wrote:",
    "gmail de": "Am Mo., 3. Apr. 2023 um 10:12 Uhr schrieb Bob Ross <bob@example.org>:",
    "gmail de, two lines": "Am Mo., 3. Apr. 2023 um 10:12 Uhr schrieb Bob Ross von Malern <\n"
    "bob@example.org>:",
    "gmail fr": "Le lun. 3 avr. 2023 à 10:12, Bob Ross <bob@example.org> a écrit :",
    "gmail es": "El lun, 3 abr 2023 a las 10:12, Bob Ross (<bob@example.org>) escribió:",
    "gmail it": "Il giorno lun 3 apr 2023 alle ore 10:12 Bob Ross <bob@example.org> ha scritto:",
    "gmail pl": "pon., 3 kwi 2023 o 10:12 Bob Ross <bob@example.org> napisał(a):",
    "gmail pl, two lines": "pon., 3 kwi 2023 o 10:12 Bob Ross z Polski\n"
    "<bob@example.org> napisał(a):",
    "gmail pt": "Em seg., 3 de abr. de 2023 às 10:12, Bob Ross <bob@example.org> escreveu:",
    "gmail pt-PT": "Bob Ross <bob@example.org> escreveu (segunda, 3/04/2023 à(s) 10:12):",
    "gmail nl": "Op ma 3 apr 2023 om 10:12 schreef Bob Ross <bob@example.org>:",
    "gmail sv": "Den mån 3 apr. 2023 kl 10:12 skrev Bob Ross <bob@example.org>:",
    "gmail no": "man. 3. apr. 2023 kl. 10:12 skrev Bob Ross <bob@example.org>:",
    "gmail da": "Den man. 3. apr. 2023 kl. 10.12 skrev Bob Ross <bob@example.org>:",
    "gmail fi": "ma 3. huhtik. 2023 klo 10.12 Bob Ross (bob@example.org) kirjoitti:",
    "gmail cs": "po 3. 4. 2023 v 10:12 odesílatel Bob Ross <bob@example.org> napsal:",
    "gmail hu": "Bob Ross <bob@example.org> ezt írta (időpont: 2023. ápr. 3., H, 10:12):",
    "gmail tr": "Bob Ross <bob@example.org>, 3 Nis 2023 Pzt, 10:12 tarihinde şunu yazdı:",
    "gmail ru": "пн, 3 апр. 2023 г. в 10:12, Bob Ross <bob@example.org>:",
    "gmail uk": "пн, 3 квіт. 2023 р. о 10:12 Bob Ross <bob@example.org> пише:",
    "gmail ro": "În lun., 3 apr. 2023 la 10:12, Bob Ross <bob@example.org> a scris:",
    "gmail el": "Στις Δευ 3 Απρ 2023 στις 10:12 π.μ., ο/η Bob <bob@example.org> έγραψε:",
    "gmail ja": "2023年4月3日(月) 10:12 Bob Ross <bob@example.org>:",
    "gmail zh": "Bob Ross <bob@example.org> 于2023年4月3日周一 10:12写道：",
    "gmail ko": "2023년 4월 3일 (월) 오전 10:12, Bob Ross <bob@example.org>님이 작성:",
    "apple en": "On 3 Apr 2023, at 10:12, Bob Ross <bob@example.org> wrote:",
    "apple de": "Am 03.04.2023 um 10:12 schrieb Bob Ross <bob@example.org>:",
    "apple it": "Il giorno 3 apr 2023, alle ore 10:12, Bob <bob@example.org> ha scritto:",
    "iphone": "On Apr 3, 2023, at 10:12 AM, Bob Ross <bob@example.org> wrote:",
    "thunderbird en": "On 4/3/23 10:12, Bob Ross wrote:",
    "thunderbird de": "Am 03.04.23 um 10:12 schrieb Bob Ross:",
    "thunderbird fr": "Le 03/04/2023 à 10:12, Bob Ross a écrit :",
    "thunderbird pl": "W dniu 3.04.2023 o 10:12, Bob Ross pisze:",
    "yahoo": "On Monday, April 3, 2023, 10:12:00 AM GMT+2, Bob Ross <bob@example.org> wrote:",
    "proton": "On Monday, April 3rd, 2023 at 10:12 AM, Bob Ross <bob@example.org> wrote:",
    "mutt": "On Mon, Apr 03, 2023 at 10:12:00AM +0200, Bob Ross wrote:",
    "mutt, other": "* Bob Ross <bob@example.org> [2023-04-03 10:12]:",
    "gnus": "Bob Ross <bob@example.org> writes:",
    "no date": "Bob Ross wrote:",
    "a language nobody listed": "Bob Ross <bob@example.org>, 3.4.2023 10:12, kirjutas nii:",
}


@pytest.mark.parametrize("line", ATTRIBUTIONS.values(), ids=ATTRIBUTIONS.keys())
def test_reply_above_quote(line: str) -> None:
    """A reply above the quote is told from it, whatever client and language announce the quote."""
    found = quotes.split(f"Hi Bob,\n\nFriday suits me.\n\nJen\n\n{line}\n\n{QUOTE}\n")
    assert found.own == ("Hi Bob,\n\nFriday suits me.\n\nJen",)
    assert found.answered == ASKED
    assert "Bob" in found.heading


@pytest.mark.parametrize("line", ATTRIBUTIONS.values(), ids=ATTRIBUTIONS.keys())
def test_reply_below_quote(line: str) -> None:
    """A reply below the quote is the writer's own, and the announcement is not."""
    found = quotes.split(f"{line}\n{QUOTE}\n\nFriday suits me.\n\nJen")
    assert found.own == ("Friday suits me.\n\nJen",)
    assert found.answered == ASKED


@pytest.mark.parametrize(
    "name", [name for name in ATTRIBUTIONS if name not in {"no date", "gnus", "thunderbird en"}]
)
def test_attribution_directly_below_own_words(name: str) -> None:
    """Without a blank line between, the announcement takes no own line with it."""
    found = quotes.split(f"Friday suits me.\n{ATTRIBUTIONS[name]}\n{QUOTE}")
    if not name.startswith("a language"):  # where the words are unknown, only a paragraph is sure
        assert found.own == ("Friday suits me.",)
    assert found.answered == ASKED


def test_inline_replies() -> None:
    """Answers between the quoted lines are kept in order, the quote is not."""
    found = quotes.split(
        "Hi Bob,\n\nOn Mon, Apr 3, 2023 at 10:12 AM Bob <bob@example.org> wrote:\n"
        "> When shall we meet?\nOn Friday.\n> Where?\n\nAt the studio.\n\n> Bob\n\nBest,\nJen\n"
    )
    assert found.own == ("Hi Bob,", "On Friday.", "At the studio.", "Best,\nJen")
    assert found.answered == "When shall we meet?\nWhere?\nBob"


def test_deeper_quotes_stay_marked() -> None:
    """Of nested quotes one level is removed, so that it stays visible who said what."""
    found = quotes.split("Yes.\n\nBob wrote:\n> No?\n> > Maybe.\n>> Perhaps.")
    assert found.answered == "No?\n> Maybe.\n> Perhaps."


OUTLOOK = {
    "en": "From: Bob Ross <bob@example.org>\nSent: Monday, April 3, 2023 10:12 AM\n"
    "To: Jen Doe <jen@example.org>\nSubject: Friday\n",
    "de": "Von: Bob Ross <bob@example.org>\nGesendet: Montag, 3. April 2023 10:12\n"
    "An: Jen Doe <jen@example.org>\nBetreff: Friday\n",
    "fr": "De : Bob Ross <bob@example.org>\nEnvoyé : lundi 3 avril 2023 10:12\n"
    "À : Jen Doe <jen@example.org>\nObjet : Friday\n",
    "es": "De: Bob Ross <bob@example.org>\nEnviado el: lunes, 3 de abril de 2023 10:12\n"
    "Para: Jen Doe <jen@example.org>\nAsunto: Friday\n",
    "it": "Da: Bob Ross <bob@example.org>\nInviato: lunedì 3 aprile 2023 10:12\n"
    "A: Jen Doe <jen@example.org>\nOggetto: Friday\n",
    "pl": "Od: Bob Ross <bob@example.org>\nWysłano: poniedziałek, 3 kwietnia 2023 10:12\n"
    "Do: Jen Doe <jen@example.org>\nTemat: Friday\n",
    "bold": "*From:* Bob Ross <bob@example.org>\n*Sent:* Monday, April 3, 2023 10:12 AM\n"
    "*To:* Jen Doe <jen@example.org>; a long list\nof people <all@example.org>\n"
    "*Subject:* Friday\n",
    "mac": "From: Bob Ross <bob@example.org>\nDate: Monday, 3 April 2023 at 10:12\n"
    "To: Jen Doe <jen@example.org>\nSubject: Friday\n",
}


@pytest.mark.parametrize("rule", ["", "________________________________\n", "-----\n"])
@pytest.mark.parametrize("header", OUTLOOK.values(), ids=OUTLOOK.keys())
def test_outlook_header_block(header: str, rule: str) -> None:
    """All below Outlook's header lines was written by others, in any of its languages."""
    found = quotes.split(f"Hi Bob,\n\nFriday suits me.\n\nJen\n\n{rule}{header}\nShall we meet?\n")
    assert found.own == ("Hi Bob,\n\nFriday suits me.\n\nJen",)
    assert found.answered == "Shall we meet?"
    fields, _ = quotes.header_block(found.heading.split("\n"))
    assert fields["from"] == "Bob Ross <bob@example.org>"
    assert fields["subject"] == "Friday"


@pytest.mark.parametrize(
    "separator",
    [
        "-----Original Message-----",
        "-----Ursprüngliche Nachricht-----",
        "-----Message d'origine-----",
        "-----Messaggio originale-----",
        "-----Mensaje original-----",
        "-----Oorspronkelijk bericht-----",
        "---------- Forwarded message ---------",
        "---------- Weitergeleitete Nachricht ---------",
        "-------- Original Message --------",
        "-------- Messaggio Inoltrato --------",
        "---------- Przekazana wiadomość ---------",
        "‐‐‐‐‐‐‐ Original Message ‐‐‐‐‐‐‐",  # Proton's hyphens are typographic
    ],
)
def test_separator(separator: str) -> None:
    """All below a separator was written by others, with header lines or without."""
    for header in ("", "From: Bob <bob@example.org>\n\n"):
        found = quotes.split(f"See below.\n\n{separator}\n{header}Shall we meet?")
        assert found.own == ("See below.",)
        assert found.answered == "Shall we meet?"


def test_proton_separator_above_attribution() -> None:
    """Below Proton's separator and attribution only quoted lines are the others'."""
    found = quotes.split(
        "Yes.\n\n------- Original Message -------\n"
        "On Monday, April 3rd, 2023 at 10:12 AM, Bob <bob@example.org> wrote:\n\n> Well?\n\nJen"
    )
    assert found.own == ("Yes.", "Jen")
    assert found.answered == "Well?"


def test_apple_forward() -> None:
    """Apple quotes the header lines of what it forwards; they are no text."""
    found = quotes.split(
        "FYI\n\nBegin forwarded message:\n\n> From: Bob <bob@example.org>\n> Subject: Friday\n"
        "> Date: 3 April 2023 at 10:12:00 CEST\n> To: Jen <jen@example.org>\n> \n> Shall we?"
    )
    assert found.own == ("FYI",)
    assert found.answered == "Shall we?"
    assert found.heading.startswith("from: Bob")


def test_forward_without_a_word() -> None:
    """A mail that only forwards holds no own words."""
    found = quotes.split("---------- Forwarded message ---------\nFrom: Bob <b@example.org>\n\nHi")
    assert found.own == ()
    assert found.answered == "Hi"


def test_attribution_without_quote_marks() -> None:
    """Where a client marks no quoted lines, all below the announcement was written by others."""
    line = ATTRIBUTIONS["gmail en"]
    found = quotes.split(f"Yes.\n\n{line}\n\nShall we?\n\nBob")
    assert (found.own, found.answered) == (("Yes.",), "Shall we?\n\nBob")


PROSE = {
    "no mail announced": "On Monday he wrote to me and asked for three bowls.\nI said yes.",
    "he wrote": "On Monday, 3 April 2023 at 10:12 he wrote:\n\nI shall be late.\n\nSo I waited.",
    "with a colon": "I looked it up. On Monday you wrote:\nwe meet at ten. Is that so?",
    "several lines": "On Friday, 3 May 2023 at 10:00 we meet. I asked Bob about\n"
    "the kiln and this is what he wrote:\n\nIt is repaired.\n\nGood news.",
    "two sentences": "On my way I saw Anna. She wrote:\n\nsee you soon\n\nNice of her.",
    "header-like": "To: Stew\nSubject: Thursday\n\nTell him that I cannot come.",
    "a date": "Date: Friday\nPlace: studio\nFrom: ten o'clock\nTo: noon\n\nSee you there!",
    "a rule": "First.\n\n-----\n\nSecond.",
    "a list": "I need:\n- clay\n- glaze",
    "the words": "This is the original message, forwarded message or not.",
    "german": "Am Montag schrieb mir Anna, dass sie kommt.\nDas freut mich.",
    "an arrow": "a -> b\n-> c",
}


@pytest.mark.parametrize("text", PROSE.values(), ids=PROSE.keys())
def test_prose_is_kept(text: str) -> None:
    """Own prose that looks a little like an announcement stays whole."""
    assert quotes.split(text) == quotes.Split((text,), "", "")


def test_prose_above_a_real_quote_is_kept() -> None:
    """A sentence that begins with "On" is no part of the announcement below it."""
    found = quotes.split(
        "On Monday I will be away.\nOn Mon, Apr 3, 2023 at 10:12 AM Bob <b@example.org> wrote:\n"
        "> Monday?"
    )
    assert found.own == ("On Monday I will be away.",)


def test_prose_above_a_name_is_kept() -> None:
    """A sentence in the line above "Bob wrote:" is no part of the announcement."""
    assert quotes.split("On my way home.\nBob wrote:\n> Well?").own == ("On my way home.",)


def test_mbox_escape_is_undone() -> None:
    """A lone ``>From`` is an mbox's spelling of an own line, not a quote."""
    assert quotes.split("Hello\n>From now on I fire at night.").own == (
        "Hello\nFrom now on I fire at night.",
    )


def test_nothing() -> None:
    """An empty text has neither own words nor others'."""
    assert quotes.split("") == quotes.Split((), "", "")


def test_many_false_announcements_are_cheap() -> None:
    """A text made of lines that nearly announce a quote is read in bounded time."""
    text = "From: x 3\nDate: 1\nBob wrote:\n" * 20_000
    assert quotes.split(text).own
