"""The private servers of the tests, for benches."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "servers"))

import dovecot
from faultproxy import FaultProxy
from stubmodel import StubModel

__all__ = ["FaultProxy", "StubModel", "dovecot"]
