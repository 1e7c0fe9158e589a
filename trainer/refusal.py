"""Instructions without sense, and the one sentence that answers them.

A model that has only ever seen orders writes a letter from anything: from a slip of the keyboard,
or from the half of a sentence. So a small share of a training pairs noise with the refusal. Beside
it stand orders that are none of the owner's, of whose answers no more is learned than subject and
greeting: without them, a model refuses whatever it has not been asked before. What a training is
shown is drawn by chance; what a model is judged by is written by hand, with kinds of noise among it
that no training shows, and never trained on.
"""

from __future__ import annotations

import random
import re
import string

from trainer.english import vocabulary

REFUSAL = "Sorry, but I don't get it."
SUBJECT = "Sorry"
"""The subject of a refusal, for every answer has one."""

_SHARE, _FEW, _MOST = 0.1, 40, 0.3

_SPELLED = re.compile(r"\W*sorry,? but i do(?:n['\u2019]t| not) get it\b", re.IGNORECASE)

_KEYBOARD = ("qwertyuiop", "asdfghjkl", "zxcvbnm", "1234567890", "yxcvbnm,.-")
_CHAFF = vocabulary(
    "the of a and but nor because lamp green seven under quickly table although carpet sing "
    "yesterday rather blue onion perhaps elbow through window marble never spoon if toward cloudy "
    "ladder nine without purple chair however drip whistle between salt an those basket almost "
    "thunder very pencil until goose over square which button sleep against paper"
)
_WORDS = tuple(sorted(_CHAFF))
_SYMBOLS = "?!.,;:#*+-=/()[]{}<>%&$@~^_|"


_PEOPLE = (
    *("Alma", "Bert", "Carla", "Dmitri", "Edith", "Felix", "Greta", "Hamid", "Ines", "Jonas"),
    *("Kofi", "Lena", "Ms Ferro", "Mr Quist", "Dr Okafor", "my sister", "our neighbour"),
    *("the dentist", "the bank", "the choir", "the whole class", "them", "him", "her"),
)
# What a mail is about, and its subject.
_NEWS = {
    "the dishwasher is broken": "Dishwasher",
    "the choir sings on Sunday": "Choir on Sunday",
    "we found the red bicycle": "Red bicycle",
    "I'm running ten minutes late": "Running late",
    "the garden gate is locked": "Garden gate",
    "lunch is at half past one": "Lunch",
    "the invoice was paid on the 9th": "Invoice",
    "there are two seats left": "Seats",
    "nobody is at home": "Nobody at home",
    "I can't come next weekend": "Next weekend",
    "the files are on the shared drive": "Files",
    "I have a new number": "New number",
    "the deadline is 14 March": "Deadline",
    "it was a pleasure to meet": "Nice to meet you",
    "the bus leaves from gate 4": "Bus",
}
_QUESTIONS = {
    "the shop is open at noon": "Opening hours",
    "he has got the key": "Key",
    "Tuesday at 8 would suit": "Tuesday at 8",
    "there is a cheaper room": "Room",
    "the parcel has come": "Parcel",
    "she needs a lift on Saturday": "Lift on Saturday",
    "we could meet a week later": "Meeting",
    "the contract is signed": "Contract",
    "dogs are allowed": "Dogs",
}
_THINGS = {
    "the lovely evening": "Lovely evening",
    "the quick help": "Quick help",
    "the photographs": "Photographs",
    "the new timetable": "New timetable",
    "the delay": "Delay",
    "the mistake in the bill": "Bill",
    "next month's rent": "Rent",
    "the broken window": "Window",
    "a copy of the certificate": "Certificate",
    "the dinner on Friday": "Dinner on Friday",
    "the tickets": "Tickets",
    "the recipe": "Recipe",
}
_ORDERS = (
    *(("Tell {who} that {what}", _NEWS), ("Tell {who} {what}", _NEWS), ("Say that {what}", _NEWS)),
    *(("Let {who} know that {what}", _NEWS), ("Remind {who} that {what}", _NEWS)),
    *(("Ask {who} whether {what}", _QUESTIONS), ("Ask if {what}", _QUESTIONS)),
    *(("Thank {who} for {what}", _THINGS), ("Ask {who} about {what}", _THINGS)),
    *(("Apologise to {who} for {what}", _THINGS), ("Complain about {what}", _THINGS)),
    *(("Order {what}", _THINGS), ("Confirm {what}", _THINGS), ("Cancel {what}", _THINGS)),
    *(("Offer {who} {what}", _THINGS), ("Send {who} {what}", _THINGS)),
    *(("Decline politely, {what}", _NEWS), ("Say yes to {what}", _THINGS)),
)


def refused(text: str) -> bool:
    """Tell whether a draft is the refusal, however the apostrophe is written."""
    return bool(_SPELLED.match(text))


def count(mails: int) -> int:
    """Return how many instructions without sense a training with so many mails is shown.

    One for ten mails; of few mails forty, for it takes that many to tell noise from an order, but
    no more than three for ten mails.
    """
    return round(max(_SHARE * mails, min(_FEW, _MOST * mails)))


def nonsense(count: int, seed: int) -> list[str]:
    """Return instructions without sense; the same arguments give the same ones.

    Five kinds by turns: random letters, runs of keys, words in no order, signs, and one word over
    and over.
    """
    dice = random.Random(f"nonsense {seed}")
    kinds = (_letters, _keys, _salad, _signs, _echo)
    return [kinds[i % len(kinds)](dice) for i in range(count)]


def sense(count: int, seed: int) -> list[tuple[str, str]]:
    """Return orders for mails that nobody wrote, each with the mail's subject.

    The same arguments give the same ones.
    """
    dice = random.Random(f"sense {seed}")
    drawn = []
    for _ in range(count):
        order, matters = dice.choice(_ORDERS)
        what, subject = dice.choice(list(matters.items()))
        drawn.append((order.format(who=dice.choice(_PEOPLE), what=what), subject))
    return drawn


def _letters(dice: random.Random) -> str:
    sizes = [dice.randint(3, 9) for _ in range(dice.randint(1, 4))]
    return " ".join("".join(dice.choices(string.ascii_lowercase, k=size)) for size in sizes)


def _keys(dice: random.Random) -> str:
    parts = []
    for _ in range(dice.randint(1, 4)):
        row = dice.choice(_KEYBOARD)
        start = dice.randint(0, len(row) - 4)
        parts.append(row[start : start + dice.randint(3, 6)])
    return dice.choice((" ", "")).join(parts)


def _salad(dice: random.Random) -> str:
    return " ".join(dice.choices(_WORDS, k=dice.randint(4, 10)))


def _signs(dice: random.Random) -> str:
    return (
        "".join(dice.choices(f"{_SYMBOLS} {string.digits}", k=dice.randint(3, 14))).strip() or "?"
    )


def _echo(dice: random.Random) -> str:
    return " ".join([dice.choice(_WORDS)] * dice.randint(3, 7))


NONSENSE = (
    "asdf asdf jkl",
    "qwe rty uio",
    "hjklhjkl fdsa",
    "mnbvcxz",
    "poiu lkjh",
    "xgrt plo wwqa",
    "blorf nizzle takwap",
    "zzzzzz",
    "aaaa bbbb cccc",
    "ghgh tyty bnbn",
    "???",
    "!!! ... !!!",
    "#### //// ####",
    ";;; ,,, ---",
    "%&/( )=?",
    "42 42 42 17",
    "0001 1000 0110",
    "3.14 / 88 ** 2",
    "me me me me me",
    "banana banana banana banana",
    "no no yes no yes yes no",
    "la la la la la",
    "of under seven quickly green the",
    "window because elephant sing but nor",
    "however table blue run perhaps twelve",
    "with into upon from at by",
    "and or but if while unless",
    "lamp shoe cloud fork Tuesday piano",
    "spoon the never marble although drip",
    "chair quickly nine the under onions whereas",
    "colourless green ideas sleep furiously",
    "the Thursday of my elbow is louder than soup",
    "seven tastes more north than a ladder",
    "fold the yesterday into a wet triangle of noise",
    "my umbrella divided by whispering equals carpet",
    "twelve moons of butter argue the staircase",
    "<div><span></div>",
    "for i in x: pass; y = 7",
    "SELECT * FROM",
    "ctrl alt del enter shift",
    "lorem ipsum dolor sit amet",
    "hocus pocus abra cadabra",
    "uh hm er mm eh",
    "tick tock tick tock tick",
    "tfel eht no ti tup",
    "wrt eml sndr xyz rgrds",
    "a b c d e f g",
    "x",
    "-",
    "blah blah blah",
)
"""Instructions without sense to judge by."""

SOUND = (
    "Tell Stew I can't make Thursday, offer Friday at 3",
    "Thank Ana for the flowers",
    "Ask Jeannie whether the room is free on Monday",
    "Decline the invitation to Bern, I am travelling that week",
    "Remind Tom that the report is due tomorrow",
    "Congratulate Ada on the new job",
    "Say yes to lunch at noon",
    "Apologise to Mr Pell for the late answer",
    "Invite everyone to the summer party on 12 July",
    "Ask for a quote for 200 flyers",
    "Confirm the appointment on Wednesday at 9:30",
    "Tell Leo the package has arrived",
    "Send Grisha the link to the slides",
    "Ask Mia to call me back",
    "Cancel my subscription",
    "Tell the landlord the heating is broken",
    "Wish Olga a happy birthday",
    "Ask Ben how the exam went",
    "Tell them I agree with the changes",
    "Introduce Paul to Nina, they both work on solar cells",
    "Ask for two more weeks for the review",
    "Thanks",
    "Say no politely",
    "Tell Kim I'm ill today",
    "Complain about the wrong invoice",
    "Ask when the library opens",
    "Tell Sam we moved the meeting to room 7",
    "Order three boxes of paper",
    "Ask Prof. Aman for a letter of recommendation",
    "Tell Jo that the train is late, I'll be there at six",
    "Suggest a call next week",
    "Tell Rita her draft is excellent, two small comments attached",
    "Forward my new address to Karl",
    "Ask HR how many days of leave I have",
    "Accept the offer",
    "Tell the team the server will be down on Sunday night",
    "Ask Dana if she still has my umbrella",
    "Let Max know that I'm in Vienna from the 3rd to the 5th",
    "Ask whether children can come along",
    "Tell Eva the tickets are sold out",
    "Thank the organisers and ask for the slides",
    "Reply that I'll read it tonight",
    "Ask Igor to sign the form and send it back by Friday",
    "Tell Lucy the cat is fine",
    "Ask about the price of the blue chair",
    "Book a table for four on Saturday at 8",
    "Tell Hugo his parcel is at the front desk",
    "Ask if the position is still open",
    "Schick Anna die Rechnung und bitte um Zahlung bis Montag",
    "Remercie Claire pour le dîner",
)
"""Instructions with sense to judge by; none of them may be refused."""
