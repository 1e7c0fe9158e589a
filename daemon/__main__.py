"""`python -m daemon` is `panza`."""

import sys

from daemon.cli import main

sys.exit(main())
