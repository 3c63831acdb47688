"""What a trial of a candidate gave, and what is known of a kernel after its trials."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self

TrialStatus = Literal["ok", "failed", "wrong_output", "crashed", "timed_out"]


@dataclass(frozen=True)
class TrialResult:
    """What became of a candidate; only a checked output can win.

    ``times_ms`` are all repeats. Where a reference kernel was timed beside them, they are told at the machine's usual
    speed, and ``reference_ms`` is what the reference took.
    """

    status: TrialStatus
    times_ms: tuple[float, ...] = ()
    error: str = ""
    is_checked: bool = False
    reference_ms: float | None = None

    @classmethod
    def of_answer(cls, answer: dict[str, Any]) -> Self:
        """The result that a worker's answer tells."""
        return cls(
            status=answer["status"],
            times_ms=tuple(answer.get("times_ms", ())),
            error=answer.get("error", ""),
            is_checked=answer.get("is_checked", False),
            reference_ms=answer.get("reference_ms"),
        )

    @property
    def best_ms(self) -> float | None:
        """The fastest repeat, which noise cannot lower."""
        return min(self.times_ms) if self.status == "ok" else None


@dataclass(frozen=True)
class KernelState:
    """What is known of a kernel: the last line of its key in ``kernels.jsonl``.

    ``default_ms`` is the time of what it runs without tuning, where that was tried.
    """

    kernel: str
    best_ms: float | None = None
    default_ms: float | None = None
    trials: int = 0
    failures: int = 0
    since_best: int = 0
    schedule: dict[str, Any] | None = None
    source: str = ""
