"""The result of a candidate's trial, and what is known of a kernel after its trials."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field, TypeAdapter

from ofa_tvm.graph.kernel import KernelSchedule
from ofa_tvm.support.files import Record

Milliseconds = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]
Count = Annotated[int, Field(ge=0, strict=True)]
TrialStatus = Literal["ok", "failed", "wrong_output", "crashed", "timed_out"]


@dataclass(frozen=True)
class TrialResult:
    """The outcome of a candidate's trial; only a checked output can win.

    ``times_ms`` are all repeats. Where a reference kernel was timed beside them, they are normalised to the speed at
    which the log began, and ``reference_ms`` is what the reference took.
    """

    status: TrialStatus
    times_ms: tuple[float, ...] = ()
    error: str = ""
    is_checked: bool = False
    reference_ms: float | None = None

    @classmethod
    def of_answer(cls, answer: Record) -> TrialResult:
        """The result in a worker's answer."""
        return _RESULT.validate_python(answer)

    @property
    def best_ms(self) -> float | None:
        """The fastest repeat, which noise cannot lower."""
        return min(self.times_ms) if self.status == "ok" else None


_RESULT = TypeAdapter(TrialResult)


@dataclass(frozen=True)
class KernelState:
    """What is known of a kernel: the last line of its key in ``kernels.jsonl``.

    ``default_ms`` is the time of its default schedule, where that was tried.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    kernel: str
    best_ms: Milliseconds | None = None
    default_ms: Milliseconds | None = None
    trials: Count = 0
    failures: Count = 0
    since_best: Count = 0
    schedule: KernelSchedule | None = None
    source: str = ""

    @classmethod
    def of_record(cls, line: Record) -> KernelState:
        """The state that a line tells.

        Raises:
            ValidationError: it is not one.
        """
        return _STATE.validate_python(line)


_STATE = TypeAdapter(KernelState)
