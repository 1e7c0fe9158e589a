"""A skip is a failure where everything must be installed."""

from __future__ import annotations

import pytest
from needs import fail_if_skipped, may_skip, need_command


def report(outcome: str, reason: str) -> pytest.TestReport:
    """Return what pytest says about a test."""
    longrepr = ("test_x.py", 1, f"Skipped: {reason}") if outcome == "skipped" else None
    return pytest.TestReport("test_x", ("", 1, ""), {}, outcome, longrepr, "setup")  # type: ignore[arg-type]


def test_skips_for_want_of_an_install_fail_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """With CI=true only what no install brings may be skipped; elsewhere anything may."""
    monkeypatch.setenv("CI", "true")
    assert fail_if_skipped(report("skipped", "needs strace")).failed
    assert "needs strace" in str(fail_if_skipped(report("skipped", "needs strace")).longrepr)
    assert fail_if_skipped(report("skipped", "root may write everywhere")).skipped
    assert fail_if_skipped(report("passed", "")).passed
    monkeypatch.delenv("CI")
    assert may_skip("needs strace")


def test_a_missing_command_is_named() -> None:
    """The skip says what to install."""
    with pytest.raises(pytest.skip.Exception, match="apt-get install a-package"):
        need_command("no-such-command", package="a-package")
    assert need_command("sh").endswith("/sh")
