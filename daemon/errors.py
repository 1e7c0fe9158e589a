"""What the daemon itself raises, and the one place that turns every fault into advice."""

from __future__ import annotations


class DaemonError(Exception):
    """Root of what the daemon itself raises."""
