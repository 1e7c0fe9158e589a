"""The one prompt builder."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from transformers import ByT5Tokenizer

from trainer.errors import InstructionTooLongError
from trainer.prompt import Ask, Budget, encode, encode_subject, encode_text, parse_draft, spans

if TYPE_CHECKING:
    from trainer.base_model import LanguageModel

ASK = Ask(
    instruction="Tell Stew I can't make Thursday",
    to="Stew",
    thread="Are we still on?",
    retrieved=("Ahoy Stew, first", "Ahoy Stew, second"),
    profile="I build boats.",
    owner="Maud Skerrow",
)


def text(lm: LanguageModel, ask: Ask, budget: Budget | None = None) -> str:
    """Return a prompt as text."""
    return str(lm.tokenizer.decode(encode(lm.tokenizer, ask, budget)))


def test_a_prompt_holds_all_that_was_given(tiny: LanguageModel) -> None:
    """Owner, profile, earlier mails, thread, recipient and instruction are in it, in this order."""
    prompt = text(tiny, ASK)
    parts = ["Maud Skerrow", "I build boats.", *ASK.retrieved, ASK.thread, "To: Stew"]
    places = [prompt.index(part) for part in [*parts, ASK.instruction]]
    assert places == sorted(places)
    assert prompt.endswith("Subject:")


def test_what_was_not_given_leaves_no_trace(tiny: LanguageModel) -> None:
    """Without recipient, thread and earlier mails there are no headings for them."""
    prompt = text(tiny, Ask("Write a poem"))
    assert "To:" not in prompt
    assert "---" not in prompt
    assert "None" not in prompt


def test_the_instruction_is_never_cut(tiny: LanguageModel) -> None:
    """Whatever the budget, the whole instruction is in the prompt."""
    long = "Tell Stew " + "very " * 2000 + "much"
    none = Budget(profile=0, thread=0, retrieved=0)
    prompt = text(tiny, Ask(long, thread="thread", retrieved=("old",), profile="me"), none)
    assert long in prompt
    assert "thread" not in prompt
    assert "old" not in prompt


def test_earlier_mails_are_whole_or_left_out_nearest_first(tiny: LanguageModel) -> None:
    """The budget keeps the nearest mails; none is cut in the middle."""
    prompt = text(tiny, ASK, Budget(retrieved=len("Ahoy Stew, first") + 3))
    assert "first" in prompt
    assert "second" not in prompt


def test_a_long_thread_keeps_its_beginning(tiny: LanguageModel) -> None:
    """Of the mail that is answered, the beginning stays within the budget."""
    prompt = text(tiny, Ask("Answer", thread="begin " + "x" * 100_000 + " end"))
    assert "begin" in prompt
    assert " end" not in prompt
    assert len(prompt) < 1000


def test_the_register_stands_behind_the_recipient(tiny: LanguageModel) -> None:
    """Prompts say to whom and how the owner writes there, whether or not a name is known."""
    ask = Ask("Say yes", to="Stew", register="known, English, about 40 words")
    assert "To: Stew (known, English, about 40 words)\n" in text(tiny, ask)
    assert "To:  (about 40 words)\n" in text(tiny, Ask("Say yes", register="about 40 words"))


@pytest.mark.parametrize(
    ("room", "shown"), [(0, 0), (100, 1), (335, 1), (430, 2), (530, 2), (700, 3)]
)
def test_a_prompt_stays_within_its_whole(tiny: LanguageModel, room: int, shown: int) -> None:
    """Beside the instruction: thread before profile before earlier mails, as far as they fit."""
    parts = {"thread": "Answer me. " * 50, "profile": "Potter. " * 30}
    ask = replace(ASK, **parts)
    bare = len(encode(tiny.tokenizer, replace(ask, thread="", profile="", retrieved=())))
    budget = Budget(whole=bare + room, thread=300, profile=150)
    assert len(encode(tiny.tokenizer, ask, budget)) <= bare + room
    prompt = text(tiny, ask, budget)
    assert ask.instruction in prompt
    found = [part in prompt for part in ("Answer me.", "Potter.", "Ahoy Stew")]
    assert found == [True] * shown + [False] * (3 - shown)


def test_an_instruction_that_leaves_no_room_is_refused(tiny: LanguageModel) -> None:
    """It is told how long it is, and how long it may be."""
    ask = Ask("Tell Stew " + "very " * 200)
    bare = len(encode(tiny.tokenizer, Ask("")))
    with pytest.raises(InstructionTooLongError) as caught:
        encode(tiny.tokenizer, ask, Budget(whole=bare + 100))
    assert caught.value.tokens == len(tiny.tokenizer(ask.instruction)["input_ids"])
    assert 90 <= caught.value.room <= 110


@pytest.mark.parametrize(
    "template",
    [
        None,
        (
            "{% for m in messages %}{% if m['role'] == 'system' %}"
            "{{ raise_exception('no system') }}{% endif %}[{{ m['content'] }}]{% endfor %}"
        ),
    ],
)
def test_models_without_a_system_role_get_it_all_in_one_turn(
    tiny: LanguageModel, template: str | None
) -> None:
    """A model with no chat format, or one that knows no system role, is told the same."""
    tiny.tokenizer.chat_template = template
    prompt = text(tiny, ASK)
    assert "I build boats." in prompt
    assert ASK.instruction in prompt


def test_prompt_and_subject_are_the_tokens_of_the_whole(tiny: LanguageModel) -> None:
    """Subject and text follow the prompt as one text would."""
    ids = encode(tiny.tokenizer, ASK) + encode_subject(tiny.tokenizer, "Re: x")
    assert str(tiny.tokenizer.decode(ids)).endswith("Subject: Re: x\n\n")


@pytest.mark.parametrize(
    ("written", "given", "expected"),
    [
        (" Boards\n\nAhoy Stew,\n\nyes.", "", ("Boards", "Ahoy Stew,\n\nyes.")),
        ("Ahoy Stew,\n\nyes.\n", "Re: x", ("Re: x", "Ahoy Stew,\n\nyes.")),
        (" Boards", "", ("Boards", "")),
        ("", "", ("", "")),
        ("\n\n Boards  and  nails \nAhoy", "", ("Boards and nails", "Ahoy")),
    ],
)
def test_what_was_written_is_split_into_subject_and_text(
    written: str, given: str, expected: tuple[str, str]
) -> None:
    """The first line is the subject, unless the subject was given."""
    assert parse_draft(written, given) == expected


@pytest.mark.parametrize("mark", ["</s>", "<s>", "<pad>", "[/INST]", "<|im_end|>"])
def test_no_mail_speaks_the_chat_format(tiny: LanguageModel, mark: str) -> None:
    """A format's mark in a mail, an instruction or a draft is plain characters to the model."""
    tiny.tokenizer.chat_template = _TURNS
    clean = Ask(
        instruction="Say yes.", thread="Yes or no?", retrieved=("Yes.",), profile="I am Jen."
    )
    laced = Ask(
        instruction=f"Say yes.{mark}",
        thread=f"{mark}Yes{mark} or no?",
        retrieved=(f"Yes.{mark}",),
        profile=f"I am Jen.{mark}",
    )
    for special in (0, 1, 2):
        expected = encode(tiny.tokenizer, clean).count(special)
        assert encode(tiny.tokenizer, laced).count(special) == expected
        assert special not in encode_text(tiny.tokenizer, f"a{mark}b")
        assert special not in encode_subject(tiny.tokenizer, f"a{mark}b")
    prompt = text(tiny, laced)
    assert prompt.count("[/INST]") == prompt.count("<|im_end|>") == 1
    assert "Yes" in prompt


_TURNS = """<s>[INST]{% for one in messages %}{{ one.content }}
{% endfor %}[/INST]<|im_end|>"""


def test_the_places_of_tokens(tiny: LanguageModel) -> None:
    """Each token has its place in the text; one in Python tells that of its word."""
    assert spans(tiny.tokenizer, "so it") == [(i, i + 1) for i in range(5)]
    slow = ByT5Tokenizer()
    assert not slow.is_fast
    assert spans(slow, "so it") == [(0, 2)] * 2 + [(2, 5)] * 3
