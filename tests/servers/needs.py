"""What a test cannot do without: a skip here, a failure where everything must be there.

    from needs import need, need_command

    need_command("strace")                      # or: need_command("strace", package="strace")
    need(Path("/dev/kvm").exists(), "a machine with /dev/kvm")

With CI=true in the environment the hooks in tests/conftest.py turn every skip into a failure,
whoever wrote it, unless its reason shows that no install would help; see `may_skip`.
"""

from __future__ import annotations

import os
import re
import shutil
from typing import TypeVar

import pytest

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)

# What apt and pip cannot bring.
_BEYOND_INSTALLS = re.compile(
    r"\broot\b|\beditable\b|\bGPU\b|\bCUDA\b|^this machine does not allow", re.IGNORECASE
)


def need(condition: object, what: str) -> None:
    """Skip the test unless a condition holds, saying what it needs."""
    if not condition:
        pytest.skip(f"needs {what}")


def need_command(name: str, package: str = "") -> str:
    """Return a command's path; skip the test where there is none."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    need(path, f"the command {name}: apt-get install {package or name}")
    return str(path)


def fail_if_skipped(report: Report) -> Report:
    """Make a failure of a skip that `may_skip` forbids; return the report."""
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
        reason = reason.removeprefix("Skipped: ")
        if not may_skip(reason):
            report.outcome = "failed"
            report.longrepr = f"skipped although CI=true: {reason}"
    return report


def may_skip(reason: str) -> bool:
    """Say whether a test with this reason may be skipped here.

    Anything may be, but for CI=true: there only what no install brings. That is a reason with one
    of the words root, editable, GPU, CUDA, or one that begins with "this machine does not allow".
    """
    return os.environ.get("CI") != "true" or bool(_BEYOND_INSTALLS.search(reason))
