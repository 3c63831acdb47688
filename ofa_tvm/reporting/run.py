"""What ``report`` reads of a search: ``result.json`` as typed values."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from ofa_tvm.energy import Cost
from ofa_tvm.errors import UserError
from ofa_tvm.storage import read_json

FILE_NAME = "result.json"


class _Part(BaseModel):
    # Other keys are the search's own business.
    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class Pick(_Part):
    """One subnet that the search offers. Accuracies are fractions; None where nobody measured or asked."""

    number: int
    subnet: str
    budget_ms: float | None = None
    predicted_ms: float
    predicted_low_ms: float
    predicted_high_ms: float
    measured_ms: float | None = None
    predicted_top1: float | None = None
    validation_top1: float | None = None
    test_top1: float | None = None
    macs: int
    parameters: int
    held: bool | None = None

    @property
    def error(self) -> float | None:
        """Predicted over measured latency, less one."""
        return self.predicted_ms / self.measured_ms - 1 if self.measured_ms else None


class FrontPoint(_Part):
    """One subnet of the predicted front."""

    subnet: str
    predicted_ms: float
    predicted_top1: float


class LatencyQuality(_Part):
    """Cross-validated quality of the latency model; ``mape`` and ``interval_coverage`` are fractions."""

    mape: float
    spearman: float | None = None
    interval_coverage: float | None = None
    samples: int


class AccuracyQuality(_Part):
    """Quality of the accuracy predictor on subnets that it has not seen; ``mae`` is a fraction."""

    kendall_tau: float | None = None
    mae: float | None = None
    samples: int


class SearchRun(_Part):
    """One finished search."""

    schema_version: Literal[1]
    space: str
    supernet: str
    target: str
    threads: int
    fingerprint: str
    budgets_ms: tuple[float, ...] = ()
    picks: tuple[Pick, ...]
    front: tuple[FrontPoint, ...] = ()
    cost: tuple[Cost, ...] = ()
    cost_model: LatencyQuality | None = None
    accuracy_predictor: AccuracyQuality | None = None
    conditions: dict[str, Any] = {}
    rounds: tuple[dict[str, Any], ...] = ()


def load_run(folder: Path) -> SearchRun:
    """Read the result of a search.

    Raises:
        UserError: missing, damaged or of another schema; the message names the key.
    """
    path = folder / FILE_NAME
    if not path.exists():
        raise UserError(f"{folder} is no finished search: {FILE_NAME} is missing", "run 'python -m ofa_tvm.search'")
    try:
        return SearchRun.model_validate(read_json(path, "search result"))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole file"
        hint = "run the search again"
        raise UserError(f"search result {path} is damaged: '{where}': {first['msg']}", hint) from error
