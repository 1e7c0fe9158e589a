"""What the trainer raises; the facts are in the attributes."""

from __future__ import annotations


class TrainerError(Exception):
    """Root of all that the trainer raises."""


class ModelMissingError(TrainerError):
    """A model that is not on this machine, or a folder or file that holds none."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"model {name!r} cannot be loaded: {reason}")
        self.name, self.reason = name, reason


class TooFewMailsError(TrainerError):
    """Fewer usable mails than a training needs."""

    def __init__(self, usable: int, needed: int) -> None:
        super().__init__(f"{usable} usable mails; a training needs {needed}")
        self.usable, self.needed = usable, needed


class AdapterError(TrainerError):
    """An adapter that is missing, damaged, unfinished or made for another base model."""

    def __init__(self, adapter: str, reason: str) -> None:
        super().__init__(f"adapter {adapter!r}: {reason}")
        self.adapter, self.reason = adapter, reason


class DivergedError(TrainerError):
    """The loss became NaN or infinite."""

    def __init__(self, step: int) -> None:
        super().__init__(f"the loss is not a number at step {step}")
        self.step = step


class ExportError(TrainerError):
    """A model that cannot be exported, or not to there; nothing was written.

    Attributes:
        target: Where it was to go.
        reason: Why not, and the way out.
    """

    def __init__(self, target: str, reason: str) -> None:
        super().__init__(f"{target}: {reason}")
        self.target, self.reason = target, reason
