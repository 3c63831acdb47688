"""The result of a candidate's trial, and what is known of a kernel after its trials."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import ConfigDict, GetPydanticSchema, TypeAdapter, ValidationError, model_validator
from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from ofa_tvm.graph.kernel import KernelSchedule
from ofa_tvm.support.files import Record
from ofa_tvm.support.typed import MAX_MS, Count, Milliseconds

TrialStatus = Literal["ok", "failed", "wrong_output", "crashed", "timed_out"]


def require_times(times_ms: Iterable[float], what: str) -> None:
    """Refuse what no clock can have told: a board that fails answers such times.

    Raises:
        ValueError: one is not a number, not above 0, or longer than ``MAX_MS``.
    """
    for time_ms in times_ms:
        if not 0 < time_ms <= MAX_MS or isinstance(time_ms, bool):
            raise ValueError(f"{what} cannot be {time_ms:g} ms")


@dataclass(frozen=True)
class TrialResult:
    """The outcome of a candidate's trial; only a checked output can win.

    ``times_ms`` are all repeats. Where a reference kernel was timed beside them, they are normalised to the speed at
    which the log began, and ``reference_ms`` is what the reference took.

    Raises:
        ValueError: a time cannot be, or "ok" comes without times.
    """

    status: TrialStatus
    times_ms: tuple[float, ...] = ()
    error: str = ""
    is_checked: bool = False
    reference_ms: float | None = None

    def __post_init__(self) -> None:
        if self.status == "ok":
            if not self.times_ms:
                raise ValueError("a trial that succeeded has no times")
            require_times(self.times_ms, "a kernel's time")
        if self.reference_ms is not None:
            require_times([self.reference_ms], "a reference kernel's time")

    @classmethod
    def of_answer(cls, answer: Record) -> TrialResult:
        """The result in a worker's answer; "failed" where the answer cannot be one."""
        try:
            return _RESULT.validate_python(answer)
        except ValidationError as error:
            return cls("failed", error=impossible(error))

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


def impossible(error: ValidationError) -> str:
    """What is wrong with an answer."""
    first = error.errors()[0]
    return f"the answer cannot be: {' '.join([*map(str, first['loc']), first['msg']])}"


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
