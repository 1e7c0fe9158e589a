"""One training as the mail process has it done: index, instructions, adapter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from daemon.retrieval import Retrieval, missing

if TYPE_CHECKING:
    from daemon.config import Account, Config
    from daemon.model_link import ModelLink
    from daemon.progress import Progress
    from daemon.store import Store


def run(
    config: Config, account: Account, store: Store, link: ModelLink, progress: Progress
) -> dict[str, Any]:
    """Train an adapter and put it in use if it has proved itself.

    The model process computes, this one keeps: it has the store. Broken off anywhere and called
    again, it goes on where it was.

    Args:
        config: The configuration, whose method, mails and epochs are meant.
        account: Whose mail is learned from.
        store: Her mails, open for writing.
        link: The model process.
        progress: Told how far it is.

    Returns:
        What ``panza train --json`` prints.

    Raises:
        daemon.errors.DaemonError: What the model process met, see `daemon.model_link.ModelLink`,
            or the store.
    """
    if missing(store):
        Retrieval(store, link.embedder()).index(progress)
    wanted = config.training
    link.playback(account.name, store.save_instructions, emails=wanted.emails, progress=progress)
    return link.train(
        account.name,
        method=wanted.method,
        emails=wanted.emails,
        epochs=wanted.epochs,
        progress=progress,
    )
