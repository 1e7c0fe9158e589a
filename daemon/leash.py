"""`python -m daemon.leash PARENT COMMAND …`: a command that does not outlive who started it.

It becomes the command, which the kernel ends when the thread that started it is gone. It stays in
the process group of its parent: in a group of its own a command that asks its owner for something
on the terminal would be stopped.
"""

from __future__ import annotations

import os
import signal
import sys

from daemon import kernel

_NOT_RUN = 126  # as a shell tells it


def main(parent: int, command: list[str]) -> int:
    """Become the command; return only where that cannot be.

    Args:
        parent: The process that is not to be outlived.
        command: The program and its arguments.
    """
    kernel.end_with_parent(signal.SIGTERM)
    if os.getppid() != parent:  # it was gone before the kernel was asked
        return _NOT_RUN
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # by Python, and a command would inherit it
        signal.signal(ignored, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)  # noqa: S606 - the owner's own command, without a shell
    except OSError:
        return _NOT_RUN


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
