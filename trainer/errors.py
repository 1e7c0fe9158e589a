"""What the trainer raises; the facts are in the attributes."""

from __future__ import annotations


class TrainerError(Exception):
    """Root of all that the trainer raises."""


class ModelMissingError(TrainerError):
    """A model that is not on this machine, or a folder or file that holds none."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"model {name!r} cannot be loaded: {reason}")
        self.name, self.reason = name, reason


class PrecisionError(TrainerError):
    """A model that cannot be had at a precision, on this machine or at all.

    Attributes:
        name: The model.
        precision: What was asked for.
        reason: Why not, and what would help.
    """

    def __init__(self, name: str, precision: str, reason: str) -> None:
        super().__init__(f"model {name!r} cannot be loaded in {precision}: {reason}")
        self.name, self.precision, self.reason = name, precision, reason


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


class InstructionTooLongError(TrainerError):
    """An instruction that leaves the model no room, for it is never cut.

    Attributes:
        tokens: How many tokens it has.
        room: How many it may have.
    """

    def __init__(self, tokens: int, room: int) -> None:
        super().__init__(
            f"the instruction has {tokens} tokens (a word is about 1.3), and the model takes {room}"
        )
        self.tokens, self.room = tokens, room


class DivergedError(TrainerError):
    """The loss, or its gradient, became NaN or infinite."""

    def __init__(self, step: int) -> None:
        super().__init__(f"the loss or its gradient is not a number at step {step}")
        self.step = step


class NotEnoughMemoryError(TrainerError):
    """A training that will not fit, told before anything of it is done.

    Attributes:
        needed: The least bytes with which it could be done.
        available: The bytes that there are.
        device: Where they are: ``cpu`` or ``cuda``.
        fits: Settings, each by itself, with which it would fit: names of the adapter's settings,
            ``method`` or ``precision``, and their values. Empty where only a smaller model helps.
    """

    def __init__(
        self, needed: int, available: int, device: str, fits: tuple[tuple[str, float | str], ...]
    ) -> None:
        super().__init__(
            f"a training needs at least {needed >> 20} MiB of "
            f"{'the GPU' if device == 'cuda' else 'memory'}, and {available >> 20} are free"
        )
        self.needed, self.available, self.device, self.fits = needed, available, device, fits


class OutOfMemoryError(TrainerError):
    """Even the smallest piece of a training step does not fit into memory.

    Attributes:
        tokens: The longest mail of the step, which has to be computed in one piece.
        row: The most tokens in a row when it was given up.
    """

    def __init__(self, tokens: int, row: int) -> None:
        super().__init__(
            f"the training does not fit into memory, even with one mail (of up to {tokens} tokens) "
            "at a time"
        )
        self.tokens, self.row = tokens, row


class PeerError(TrainerError):
    """One of several processes that train together has ended in the middle.

    Attributes:
        processes: How many there were.
        code: Its exit code, or minus the signal that ended it.
    """

    def __init__(self, processes: int, code: int) -> None:
        super().__init__(f"one of {processes} processes that train together ended with {code}")
        self.processes, self.code = processes, code


class CheckpointError(TrainerError):
    """A checkpoint that cannot be written; the one before it is still there.

    Attributes:
        path: The file.
        reason: What the system says.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path} cannot be written: {reason}")
        self.path, self.reason = path, reason


class ExportError(TrainerError):
    """A model that cannot be exported, or not to there; nothing was written.

    Attributes:
        target: Where it was to go.
        reason: Why not, and the way out.
    """

    def __init__(self, target: str, reason: str) -> None:
        super().__init__(f"{target}: {reason}")
        self.target, self.reason = target, reason
