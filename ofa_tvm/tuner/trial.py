"""The result of a candidate's trial, and what is known of a kernel after its trials."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import ConfigDict, GetPydanticSchema, TypeAdapter, model_validator
from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from ofa_tvm.graph.kernel import KernelSchedule
from ofa_tvm.support.files import Record
from ofa_tvm.support.typed import Count, Milliseconds

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


class _Schedule(TypedDict, total=False):
    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]

    template: str
    parameters: dict[str, int | str]
    trace: list[Any]


SoundSchedule = Annotated[KernelSchedule, GetPydanticSchema(lambda _, handler: handler.generate_schema(_Schedule))]


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
    schedule: SoundSchedule | None = None
    source: str = ""

    @model_validator(mode="after")
    def _has_winner(self) -> Self:
        if (self.best_ms is None) != (self.schedule is None):
            raise ValueError("a kernel has both a best time and its schedule, or neither")
        return self


KERNEL_STATE = TypeAdapter(KernelState)


@dataclass(frozen=True)
class TrialRecord:
    """A line of ``trials.jsonl``: a candidate by its digest, and what became of it."""

    digest: str
    kernel: str
    source: str
    status: TrialStatus
    time_ms: Milliseconds | None
    is_checked: bool
    error: str

    @model_validator(mode="after")
    def _has_time(self) -> Self:
        if (self.status == "ok") != (self.time_ms is not None):
            raise ValueError("a trial that is ok, and no other, has a time")
        return self

    @property
    def result(self) -> TrialResult:
        """What it told."""
        return TrialResult(self.status, (self.time_ms,) if self.time_ms else (), self.error, self.is_checked)


TRIAL_RECORD = TypeAdapter(TrialRecord)
