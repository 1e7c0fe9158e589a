"""Which text a machine wrote, and which only looks a little like it."""

from __future__ import annotations

import pytest

from trainer.machine import AUTOMATIC, CODE, reason

CODES = {
    "Python": "def f(x):\n    return x;\nimport os\nprint(f(2));",
    "log": "2024-01-01 10:00:00 ERROR: disk\n2024-01-01 10:00:01 INFO: up\n[2024-01-01T10:02 x",
    "syslog": "Jan  2 10:00:01 kiln sshd[1]: up\nJan  2 10:00:02 kiln cron[2]: run\n"
    "Jan 12 10:00:03 kiln sshd[1]: down",
    "web log": "10.0.0.1 - - [x] GET /a\n10.0.0.2 - - [x] GET /b\n10.0.0.3 - - [x] GET /c",
    "traceback": "Hi, this is what I get:\n\nTraceback (most recent call last):\n"
    '  File "kiln.py", line 3, in <module>\n    fire()\n  File "kiln.py", line 1, in fire\n'
    "ZeroDivisionError: division by zero",
    "Java": "java.lang.NullPointerException\n  at org.kiln.Fire.run(Fire.java:3)\n"
    "  at org.kiln.Main.main(Main.java:9)\n  at org.kiln.Start.go(Start.java:1)",
    "C": "int main(void) {\n  fire(1240);\n  return 0;\n}",
    "shell": "$ ls\n$ cd kiln\n$ make fire",
    "SQL": "SELECT * FROM pots\nINSERT INTO pots VALUES (1)\nDELETE FROM pots",
    "JSON": '{\n  "pot": 1,\n  "glaze": "blue"\n}',
    "diff": "diff --git a/kiln b/kiln\n--- a/kiln\n+++ b/kiln\n@@ -1 +1 @@\n-fire(1)\n+fire(2)",
    "HTML": "<table>\n<tr><td>jug</td></tr>\n</table>",
    "table with bars": "| pot | price |\n| jug | 30 |\n| cup | 12 |",
    "table with tabs": "jug\t30\t2\ncup\t12\t9\nbowl\t20\t4",
    "table with columns": "jug      30      2\ncup      12      9\nbowl     20      4",
    "CSV": "pot;price;stock;glaze\njug;30;2;blue\ncup;12;9;green",
    "base64": "\n".join(
        ["VGhlIGtpbG4gaXMgY29sZCBub3cgYW5kIGV2ZXJ5dGhpbmcgaW4gaXQgY2FtZSBvdXQ"] * 3
    ),
    "hex": "\n".join(["00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f"] * 3),
}


@pytest.mark.parametrize("text", CODES.values(), ids=CODES.keys())
def test_code_logs_and_tables(text: str) -> None:
    """Programs, what they print, and tables are a machine's."""
    assert reason("Kiln", text, addressed=True) == CODE


AUTOMATICS = {
    "automatic reply": ("Automatic reply: Bowls", "I am away until Monday."),
    "Abwesenheitsnotiz": ("Abwesenheitsnotiz: Schalen", "Ich bin bis Montag nicht da."),
    "Réponse automatique": ("Réponse automatique : Bols", "Je suis absente."),
    "自動応答": ("自動応答: 器", "不在です。"),
    "out of office, by its words": (
        "Bowls",
        "Thank you for your message. I am out of the office until 3 May. In urgent cases call Bob.",
    ),
    "Abwesenheit, by its words": (
        "Re: Schalen",
        "Guten Tag,\n\nvielen Dank für Ihre Nachricht. Ich bin im Urlaub. Sie wird nicht gelesen.",
    ),
    "generated": ("Receipt", "Your order is here.\n\nThis is an automatically generated message."),
    "do not reply": ("Receipt", "Please do not reply to this e-mail.\nYour order is here."),
    "automatisch": ("Beleg", "Diese E-Mail wurde automatisch erstellt."),
    "Google's answer": ("Accepted: Kiln", "Jen Doe has accepted this invitation."),
    "Outlook's answer": ("Zugesagt: Brand", "Brand\nMontag, 3. Mai\nAtelier"),
    "declined": ("Declined: Kiln @ Mon 3 May", "Jen Doe has declined this invitation.\n\nWhen: 10"),
    "answer in German": ("Brand", "Jen Doe hat diese Einladung angenommen."),
}


@pytest.mark.parametrize(("subject", "text"), AUTOMATICS.values(), ids=AUTOMATICS.keys())
def test_automatic_replies_and_calendar_answers(subject: str, text: str) -> None:
    """What a program answered in the owner's name is none of her words."""
    assert reason(subject, text, addressed=False) == AUTOMATIC


PEOPLE = {
    "a list": "I need:\n\n- clay\n- glaze\n- a new shelf\n\nTill Friday!",
    "a list with semicolons": "Please bring\n- bread;\n- milk;\n- a new oar.",
    "numbers": "1. the bowls are done\n2. the jug is not\n3. the kiln is cold",
    "a programme": "10:00 coffee\n11:00 the kiln\n12:30 lunch\n14:00 glazes",
    "an address": "Studio Doe\nHauptplatz 3\n8010 Graz\nAustria",
    "dates": "3 May: glazing\n4 May: firing\n6 May: opening the kiln",
    "a poem": "roses are red\nviolets are blue\nclay is grey\nand so are you",
    "a line of code in a letter": "Could you run this?\n\n$ make fire\n\nIt takes a minute. If it "
    "fails, send me the last line of what it says.\n\nThanks for the help with all of this!",
    "prices": "The jug is 30, the cup is 12, and the bowl is 20.\nAll of them are blue.\nDeal?",
    "links": "https://example.org/a\nhttps://example.org/b\nhttps://example.org/c",
    "Sätze": "Danke dir!\nWir sehen uns; ich freue mich.\nBis bald; und grüß Anna.",
    "on leave, said by a person": "Thank you for your message. Unfortunately I am on annual leave, "
    "and therefore I cannot join. Ask Bob, he knows the kiln as well as I do.",
    "away": "I am out of the office until Monday, shall we meet on Tuesday?",
    "about such a mail": "I got a mail that says it is an automated message. Is it yours?",
    "accepted": "I heard that Bob has accepted the offer. How good!",
    "from home": "from Monday on I am at home\nimport taxes are paid\nreturn trip is booked",
}


@pytest.mark.parametrize("text", PEOPLE.values(), ids=PEOPLE.keys())
def test_what_people_write(text: str) -> None:
    """Lists, programmes, prices, and talk of absences and invitations are people's words."""
    assert reason("Re: Kiln", text, addressed=False) == ""


def test_a_letter_under_a_calendars_subject() -> None:
    """Who greets and signs is a person, also under "Cancelled"."""
    subject = "Cancelled: rehearsal on Friday"
    assert reason(subject, "we have to cancel, the hall is cold.", addressed=True) == ""
    assert reason(subject, "Rehearsal", addressed=False) == AUTOMATIC


def test_a_line_that_is_made_to_be_slow() -> None:
    """A line of a million signs is no line of code, and is not searched for it."""
    assert reason("Kiln", "\n".join(["a" + "=" * 10**6] * 3), addressed=False) == ""
