"""What a search leaves behind for ``deploy``: its picks, and what finding them cost."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from ofa_tvm.energy import Cost
from ofa_tvm.errors import UserError
from ofa_tvm.storage import read_json

FILE_NAME = "result.json"


class _Part(BaseModel):
    # Other keys are the search's own business.
    model_config = ConfigDict(extra="ignore", frozen=True)


class Pick(_Part):
    """One subnet that a search offers, with what was predicted before it was measured, and what was measured.

    Args:
        number: of the pick in its search, from 1.
        subnet: key of the subnet.
        budget_ms: the budget it was searched for; None for a pick of the whole front.
        predicted_ms: latency, with the ends of its 90 % interval.
        measured_ms: latency on the device.
        predicted_top1: accuracy as a fraction.
        validation_top1: accuracy on held-out training images.
        test_top1: accuracy on the test images, which only report.
        macs: multiply-accumulates of one image.
        parameters: trainable numbers.
        held: whether the confirming measurement kept the budget.
    """

    number: int
    subnet: str
    budget_ms: float | None = None
    predicted_ms: float | None = None
    predicted_low_ms: float | None = None
    predicted_high_ms: float | None = None
    measured_ms: float | None = None
    predicted_top1: float | None = None
    validation_top1: float | None = None
    test_top1: float | None = None
    macs: int | None = None
    parameters: int | None = None
    held: bool | None = None


class SearchResult(_Part):
    """The parts of ``result.json`` that a deployment needs."""

    space: str
    supernet: Path
    target: str
    threads: int | None = None
    picks: tuple[Pick, ...]
    cost: tuple[Cost, ...] = ()

    def pick(self, number: int) -> Pick:
        """The pick of that number.

        Raises:
            UserError: there is none; the message lists the picks.
        """
        found = [pick for pick in self.picks if pick.number == number]
        if not found:
            known = "; ".join(f"{pick.number}: {pick.subnet}" for pick in self.picks) or "the search found none"
            raise UserError(f"the search has no pick {number}", f"picks: {known}")
        return found[0]


def load_search_result(folder: Path) -> SearchResult:
    """Read the result of a search.

    Args:
        folder: the run's folder; a relative supernet path may start there.

    Raises:
        UserError: missing or damaged.
    """
    path = folder / FILE_NAME
    if not path.exists():
        raise UserError(f"{folder} is no finished search: {FILE_NAME} is missing", "run 'python -m ofa_tvm.search'")
    try:
        result = SearchResult.model_validate(read_json(path, "search result"))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(
            f"search result {path} is damaged: '{where}': {first['msg']}", "run the search again"
        ) from error
    beside = folder / result.supernet
    return (
        result.model_copy(update={"supernet": beside}) if not result.supernet.exists() and beside.exists() else result
    )
