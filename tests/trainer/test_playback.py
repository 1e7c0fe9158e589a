"""Mails turned into the instructions that could have produced them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer import check
from trainer.acts import acts
from trainer.check import fault, longest_run
from trainer.corpus import SentMail
from trainer.english import third
from trainer.extractive import habits, instruct, sentences
from trainer.playback import (
    PROMPT_VERSION,
    Complete,
    Instruction,
    Playback,
    cleaned,
    counts,
    few_shot,
    zero_shot,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray


def mail(text: str, *, subject: str = "Re: Thursday", to: str = "Stew", key: str = "k") -> SentMail:
    """Return an English mail."""
    return SentMail(key, datetime(2024, 1, 1, tzinfo=UTC), (to,), subject, text, "", "en")


STEW = mail(
    "Hi Stew,\n\nUnfortunately I won't be able to make it to the yard on Thursday, because the "
    "lorry comes. Would Friday at 3 work for you instead?\n\nBest,\nJen"
)
GOOD = "Tell Stew I can't make Thursday, offer Friday at 3."


class Memory(dict[tuple[str, str], Instruction]):
    """A cache that counts how often it was written to."""

    writes = 0

    def get(self, key: str, version: str) -> Instruction | None:  # type: ignore[override]
        """Return what is kept."""
        return super().get((key, version))

    def put(self, version: str, made: Mapping[str, Instruction]) -> None:
        """Keep it."""
        self.writes += 1
        self.update({(key, version): one for key, one in made.items()})


class Model:
    """A model that always gives the same answers, by its prompt, or breaks down after batches."""

    def __init__(self, answer: str, *, shown: str = "", batches: int = 1000) -> None:
        self.answer, self.shown, self.batches = answer, shown or answer, batches
        self.asked = self.asked_with_examples = 0

    def __call__(
        self, conversations: Sequence[list[dict[str, str]]], max_new_tokens: int
    ) -> list[str]:
        """Answer."""
        assert max_new_tokens <= 64
        if self.batches == 0:
            raise KeyboardInterrupt
        self.batches -= 1
        examples = sum(len(one) > 1 for one in conversations)
        self.asked += len(conversations)
        self.asked_with_examples += examples
        return [self.shown if len(one) > 1 else self.answer for one in conversations]


def near(texts: Sequence[str]) -> NDArray[np.float32]:
    """Return vectors as if all texts were about the same."""
    return np.ones((len(texts), 1), np.float32)


def far(texts: Sequence[str]) -> NDArray[np.float32]:
    """Return vectors as if no two texts were about the same."""
    return np.eye(len(texts), dtype=np.float32)


def playback(cache: Memory, model: Complete | None, name: str = "hash") -> Playback:
    """Return a playback whose encoder finds everything near."""
    return Playback(cache, model, name, near)


def many(count: int) -> list[SentMail]:
    """Return mails that differ in their keys."""
    return [replace(STEW, key=str(i)) for i in range(count)]


# The instructions of an owner


@pytest.mark.parametrize(
    ("text", "instruction"),
    [
        (
            "Thanks Archie! With some delay, I have submitted a proposal.",
            "Thank Archie, say I have submitted a proposal.",
        ),
        (
            "Hi Jin,\n\nAre you in the office this Wednesday or Thursday?\n\nJen",
            "Ask Jin if they're in the office this Wednesday or Thursday.",
        ),
        (
            "Hi Kevin,\n\nI hope all is well. Could you please push your code somewhere?\n\nJen",
            "Ask Kevin to push their code somewhere.",
        ),
        (
            "Dear Wally,\n\nWhich email should I use for you?\n\nJen",
            "Ask Wally which email I should use for them.",
        ),
        (
            "Hi Jo,\n\nThank you for the invitation, I would be glad to give a talk in May.\n\nJen",
            "Accept Jo's invitation, offer to give a talk in May.",
        ),
        (
            "Hi Jo,\n\nThank you for the invitation. I'm afraid I cannot come in May.\n\nJen",
            "Decline Jo's invitation, say I can't come in May.",
        ),
        (
            "Hi Jo,\n\nHere's the paper I mentioned:\n\nhttps://arxiv.org/abs/2310.16\n\nJen",
            "Send Jo the paper I mentioned: https://arxiv.org/abs/2310.16.",
        ),
        (
            "Dear Leo and Grisha,\n\nAnother gentle reminder about this.\n\nJen",
            "Remind Leo and Grisha about the oars.",
        ),
        (
            "Hi Di,\n\nMy apologies, I just found your email in my spam folder.\n\nJen",
            "Apologise to Di, say I found their email in my spam folder.",
        ),
    ],
)
def test_an_instruction_reads_as_an_owner_would_type_it(text: str, instruction: str) -> None:
    """The verb follows what the mail does; the reader is "they", pleasantries are gone."""
    assert instruct(mail(text, subject="Re: the oars", to="Archie")) == instruction


def test_facts_stay() -> None:
    """Names, days and times of a mail are in its instruction, a hedge is not."""
    made = instruct(STEW)
    assert all(word in made for word in ("Stew", "Thursday", "Friday", "3"))
    assert "Unfortunately" not in made
    assert fault(made, STEW) == ""


def test_a_new_mail_names_its_subject_where_the_text_does_not() -> None:
    """A subject that the acts leave out is told of a new mail, not of a reply."""
    text = "Hi Tom,\n\nCould you come to the yard on Monday at nine?\n\nJen"
    assert instruct(mail(text, subject="Disk quota")).startswith(
        "Write to Tom about disk quota, ask"
    )
    assert "quota" not in instruct(mail(text, subject="Re: Disk quota"))


def test_a_long_mail_gives_a_short_instruction() -> None:
    """However long the mail, its instruction has a limit, and starts with what comes first."""
    text = "Hi Tom,\n\n" + " ".join(
        f"The boat {i} is in the yard since May {i}." for i in range(1, 31)
    )
    made = instruct(mail(text))
    assert len(made.split()) <= check.MAX_WORDS
    assert "boat 1 " in made


def test_an_instruction_is_the_same_every_time() -> None:
    """Nothing in it depends on chance, on order or on other mails."""
    assert len({instruct(STEW) for _ in range(3)}) == 1


def test_turns_of_phrase_are_not_ordered() -> None:
    """What the owner writes in mail after mail is left out, an address is only mentioned."""
    address = "The shed is The Net Loft, 7 Gannet Quay, Pollenhythe."
    body = "Hi {0},\n\nCome on {0} at ten. The kettle knows. " + address + "\n\nJen"
    mails = [mail(body.format(day)) for day in ("Monday", "Friday", "Sunday")]
    known = habits(mails)
    assert len(known) == 2
    made = instruct(mails[0], known)
    assert "send the address of the shed" in made
    assert "kettle" not in made
    assert "Gannet" not in made


@pytest.mark.parametrize(
    ("language", "text", "start", "facts"),
    [
        (
            "de",
            "Liebe Anna,\n\nleider kann ich Donnerstag nicht kommen, ginge Freitag 15 Uhr?\n\nJo",
            "Schreib Anna wegen Treffen:",
            ("Donnerstag", "nicht", "Freitag", "15"),
        ),
        (
            "fr",
            "Bonjour Anna,\n\nJe ne peux pas venir lundi, mais mardi \u00e0 10h me convient.\n\nJo",
            "\u00c9cris \u00e0 Anna pour Treffen:",
            ("ne", "pas", "mardi", "10h"),
        ),
        (
            "eo",
            "Kara Anna,\n\nMi ne povas veni vendrede, sed sabate je la 15-a horo mi venos.\n\nJo",
            "Write to Anna about Treffen:",
            ("ne", "sabate", "15-a"),
        ),
    ],
)
def test_other_languages(language: str, text: str, start: str, facts: tuple[str, ...]) -> None:
    """Without rules there are recipient, subject and the telling words, negations among them."""
    one = replace(mail(text, subject="Re: Treffen", to="Anna"), language=language)
    made = instruct(one)
    assert made.startswith(start)
    assert all(word in made for word in facts)
    assert fault(made, one) == ""


PHRASES = (
    "please, ", "could you ", "thank you ", "for ", "sorry ", "let me know ", "if ", "since ",
    "I am ", "you ", "your ", "this ", "yes, ", "? ", ". ", ": ", "\n", "\n\n", ", ", "(",
    ") ", "-- ", "- ", "about ", "would ", "it is ", "here is ", "Stew ", "3 ",
    "http://a.b/c ", "Re: ",
)  # fmt: skip
TEXTS = st.lists(st.sampled_from(PHRASES), max_size=60).map("".join)


@given(
    text=st.text(max_size=400) | TEXTS,
    subject=st.text(max_size=40) | TEXTS,
    to=st.text(max_size=20),
)
@settings(deadline=None)
def test_any_text_has_an_instruction(text: str, subject: str, to: str) -> None:
    """Whatever a mail holds, its instruction is one line of bounded length."""
    made = instruct(mail(text, subject=subject, to=to))
    assert made.strip()
    assert len(made.splitlines()) == 1
    assert len(made) < 2000


def test_an_empty_mail_still_has_an_instruction() -> None:
    """A mail of which nothing is left gives recipient and subject."""
    assert instruct(mail("", subject="Top plank")) == "Write to Stew about top plank."


# What the rules rest on


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("I hope you are well!", []),
        (
            "Could you send it, and let me know when you're back?",
            [("ask", "to send it"), ("ask", "when they're back")],
        ),
        ("Did you ever publish your work?", [("ask", "if they ever published their work")]),
        (
            "Since I'm away, would it be OK to move my talk?",
            [("ask", "if it's OK to move my talk, since I'm away")],
        ),
        (
            "Would 2:30pm on Monday work for you?",
            [("ask", "if 2:30pm on Monday works for them")],
        ),
        ("Short version: the larch came early.", [("tell", "the larch came early")]),
        ("Maybe Wednesday?", [("suggest", "Wednesday")]),
    ],
)
def test_what_a_sentence_does(sentence: str, expected: list[tuple[str, str]]) -> None:
    """Requests, questions and proposals are told from statements; a pleasantry does nothing."""
    assert [(act.verb, act.content) for act in acts(sentence)] == expected


@pytest.mark.parametrize(
    ("said", "about"),
    [
        ("if you have time", "if they have time"),
        ("I sent you your oar", "I sent them their oar"),
        ("glad you liked it", "glad they liked it"),
        ("for you", "for them"),
    ],
)
def test_the_reader_becomes_a_third_person(said: str, about: str) -> None:
    """Subject and object are told apart."""
    assert third(said) == about


def test_sentences() -> None:
    """Abbreviations, links and wrapped lines end no sentence; line breaks of a list do."""
    text = "Dear Dr. Byron came. See: \nhttps://a.example/b.html?c=1\nnow and\nthen.\n- One\n- Two"
    assert sentences(text) == [
        "Dear Dr. Byron came.",
        "See: https://a.example/b.html?c=1 now and then.",
        "- One",
        "- Two",
    ]


# The check


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD, ""),
        ("Say I can't come on Thursday; suggest Friday at 3.", ""),
        ("Hi Stew, I can't make it on Thursday.", check.NOT_AN_ORDER),
        ("I can't make it on Thursday, Stew.", check.NOT_AN_ORDER),
        ("Ask Stew: would Friday at 3 work?", check.NOT_AN_ORDER),
        ("Thank you, Stew, for Thursday and Friday.", check.NOT_AN_ORDER),
        ("", check.NOT_AN_ORDER),
        ("Tell Stew I won't be able to make it to the yard on Thursday.", check.COPY),
        ("Tell Stew the weather in Rome is lovely.", check.NOT_ABOUT),
        ("Tell Jen I can't make Thursday, offer Friday at 3.", check.NOT_ABOUT),
        ("Tell Stew Jen can't make Thursday, offer Friday at 3.", check.NOT_ABOUT),
        ("Tell Stew to write a short e-mail about Friday at 3.", check.NOT_AN_ORDER),
        ("Tell Stew I can't make Thursday, offer Friday at 4.", check.INVENTED),
        ("Tell Stew and Mona I can't make Thursday, offer Friday at 3.", check.INVENTED),
        ("Tell Stew I can't make it to the yard.", check.LOST),
        ("Tell Stew I can't. Not Thursday. Friday works. At 3.", check.TOO_LONG),
        ("Tell Stew I can't make Thursday. Offer Friday. Say at 3.", ""),
        ("Tell Stew " + "no Thursday " * 20, check.TOO_LONG),
    ],
)
def test_the_check(text: str, expected: str) -> None:
    """An instruction is an order, about this mail, short, and no copy; a made-up number fails."""
    assert fault(text, STEW) == expected


def test_facts_make_no_copy() -> None:
    """An address that is repeated word for word does not make an instruction a copy."""
    address = "Jen Doe, 7 Gannet Quay, Pollenhythe, Mon Tue Wed 01632 960417"
    assert longest_run(address, f"Send it to {address} please") == 0
    assert longest_run("move the big boat out", "Then move the big boat") == 4


# The model, the fallback and the cache


def test_a_sound_answer_of_the_model_is_used() -> None:
    """A model that can do it by the order alone is asked once for every mail."""
    model = Model(f'  "{GOOD}"\n\nHope that helps!')
    made = playback(Memory(), model).instructions(many(50))
    assert {one.text for one in made.values()} == {GOOD}
    assert counts(made.values()) == {"model": 50, "few_shot": 0, "extractive": 0}
    assert (model.asked, model.asked_with_examples) == (50, 0)


def test_a_model_that_needs_examples_is_soon_asked_with_them() -> None:
    """After a few unsound answers to the order alone it is asked with examples, and only so."""
    model = Model(STEW.text, shown=GOOD)
    made = playback(Memory(), model).instructions(many(50))
    assert {one.text for one in made.values()} == {GOOD}
    assert counts(made.values()) == {"model": 0, "few_shot": 50, "extractive": 0}
    assert model.asked_with_examples == 50
    assert model.asked - 50 < 10


def test_each_failure_falls_to_the_next_stage() -> None:
    """What the order alone does not bring is asked with examples, what is left is extractive."""

    def model(conversations: Sequence[list[dict[str, str]]], _most: int) -> list[str]:
        """Fail without examples at every third mail, with them at every second."""
        keys = [int(one[-1]["content"].split("Re: key ")[1].split()[0]) for one in conversations]
        return [
            GOOD if key % (2 if len(one) > 1 else 3) else "Hi Stew,"
            for key, one in zip(keys, conversations, strict=True)
        ]

    mails = [replace(STEW, key=str(i), subject=f"Re: key {i}") for i in range(60)]
    made = playback(Memory(), model).instructions(mails)
    assert counts(made.values()) == {"model": 40, "few_shot": 10, "extractive": 10}
    assert made["3"] == Instruction(GOOD, "few_shot")
    assert made["6"].source == "extractive"


def test_a_model_that_echoes_is_soon_left_alone() -> None:
    """After a few unsound answers the mails' own words are used, and a later run asks no more."""
    model, cache = Model(STEW.text), Memory()
    made = playback(cache, model).instructions(many(50))
    assert counts(made.values()) == {"model": 0, "few_shot": 0, "extractive": 50}
    assert made["7"].text == instruct(STEW, habits(many(50)))
    asked = model.asked
    assert asked < 20
    playback(cache, model).instructions(many(60))
    assert model.asked == asked


def test_an_answer_about_something_else_is_not_used() -> None:
    """An answer whose embedding is far from the mail's is none, whatever words they share."""
    model = Model(GOOD)
    made = Playback(Memory(), model, "hash", far).instructions(many(50))
    assert counts(made.values())["extractive"] == 50
    assert model.asked < 20


def test_nothing_is_made_twice() -> None:
    """A second run takes all from the cache; another model starts anew."""
    cache = Memory()
    first = playback(cache, Model(GOOD)).instructions(many(20))
    model = Model("unused")
    assert playback(cache, model).instructions(many(20)) == first
    assert model.asked == 0
    assert {version for _, version in cache} == {f"{PROMPT_VERSION}-hash"}
    made = playback(cache, None, "other").instructions(many(20))
    assert counts(made.values())["extractive"] == 20


def test_an_interruption_loses_no_batch() -> None:
    """What was made before an interruption is in the cache, and is not asked for again."""
    cache = Memory()
    with pytest.raises(KeyboardInterrupt):
        playback(cache, Model(GOOD, batches=2)).instructions(many(60))
    kept = len(cache)
    assert 0 < kept < 60
    model = Model(GOOD)
    playback(cache, model).instructions(many(60))
    assert model.asked == 60 - kept


def test_progress_reaches_the_end() -> None:
    """Progress never falls, and ends with all mails done."""
    seen: list[tuple[int, int]] = []
    playback(Memory(), None).instructions(many(40), lambda *at: seen.append(at))
    assert seen == sorted(seen)
    assert seen[-1] == (40, 40)


def test_no_mails() -> None:
    """Nothing in, nothing out."""
    assert playback(Memory(), Model(GOOD)).instructions([]) == {}


def test_the_conversations_suit_every_chat_format() -> None:
    """Roles alternate from user to assistant, with no system role; the mail has no closing."""
    turns = few_shot(STEW)
    assert [turn["role"] for turn in turns] == ["user", "assistant"] * 3 + ["user"]
    assert turns[-1]["content"].startswith("To: Stew\nSubject: Re: Thursday\n\nHi Stew,")
    assert "Jen" not in turns[-1]["content"]
    (alone,) = zero_shot(STEW)
    assert alone["role"] == "user"
    assert alone["content"].startswith(turns[-1]["content"])
    for ask in (zero_shot, few_shot):
        assert len(ask(replace(STEW, text="x" * 10**6))[-1]["content"]) < 3000


def test_the_examples_are_sound_themselves() -> None:
    """Each example that a model is shown passes the check that its answers must pass."""
    turns = few_shot(STEW)
    for asked, answered in zip(turns[:-1:2], turns[1::2], strict=True):
        head, _, text = asked["content"].rpartition("Subject: ")
        subject, _, text = text.partition("\n\n")
        to = head.rpartition("To: ")[2].strip() if "To: " in head else ""
        assert fault(answered["content"], mail(text, subject=subject, to=to)) == "", answered


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ('Order: "Tell Stew no."', "Tell Stew no."),
        ("Sure! Here is the order:\n\nTell Stew no.\nAsk about Friday.", None),
        ("Here's the order I gave you: Tell Stew no.", "Tell Stew no."),
        ("**Tell Stew no.**\n\nI hope this helps.", "Tell Stew no."),
        ("Tell Stew: no.", "Tell Stew: no."),
        ("", ""),
    ],
)
def test_what_stands_around_an_order_goes(answer: str, text: str | None) -> None:
    """Labels, quotation marks and what a model says about its answer are no part of it."""
    assert cleaned(answer) == (text if text is not None else "Tell Stew no. Ask about Friday.")
