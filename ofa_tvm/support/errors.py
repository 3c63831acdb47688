"""The few errors that reach a user, each with the exit code that its command ends with."""

from __future__ import annotations


class OfaTvmError(Exception):
    """Base of the errors that a command prints as one message, without a traceback.

    Args:
        what: what is wrong and where.
        hint: the next thing to try.
    """

    exit_code = 1

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__("\n  ".join([what, *hint.splitlines()]))
        self.what = what
        self.hint = hint
        self.is_told = False
        """Whether a printed result contains the error already."""

    def record(self) -> dict[str, object]:
        """As a JSON object."""
        return {"code": self.exit_code, "reason": self.what, "hint": self.hint}


class UserError(OfaTvmError):
    """Input that cannot be used."""

    exit_code = 2


class NotTuned(UserError):
    """Too little was tuned or measured before for what is asked; nothing was done."""


class HostFault(OfaTvmError):
    """The machine failed (no space, memory or processes); this says nothing about what was being tried."""


class PartialResult(OfaTvmError):
    """Work that ended before it was complete; what was done is saved."""

    exit_code = 3


class Infeasible(OfaTvmError):
    """No subnet meets the constraint; the message names the nearest feasible value.

    Args:
        what: what is wrong and where.
        hint: the next thing to try.
        nearest: ``limit``, ``value`` and ``subnet`` that come nearest, where they are known.
    """

    exit_code = 4

    def __init__(self, what: str, hint: str = "", nearest: dict[str, object] | None = None) -> None:
        super().__init__(what, hint)
        self.nearest = nearest

    def record(self) -> dict[str, object]:
        """As a JSON object."""
        return {**super().record(), "nearest": self.nearest}


class DeviceUnreachable(OfaTvmError):
    """The device that should run the code cannot be used."""

    exit_code = 5
