"""`panza`, with every logger of every library at its loudest; takes the same words."""

from __future__ import annotations

import logging
import sys

logging.basicConfig(level=logging.DEBUG, format="%(levelname)s %(name)s: %(message)s")

from daemon.cli import main  # noqa: E402 - the loggers come first

if __name__ == "__main__":
    sys.exit(main())
