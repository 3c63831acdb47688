"""What a search leaves behind: ``result.json`` as typed values, for ``deploy`` and ``report``."""

from __future__ import annotations

import shlex
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from ofa_tvm.cost_model.layer_time import LayerTime
from ofa_tvm.hardware.target import Provenance
from ofa_tvm.spaces.subnet_blocks import Block
from ofa_tvm.support.dtype import DType
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import Record
from ofa_tvm.support.ledger import Cost
from ofa_tvm.support.typed import (
    Count,
    Finite,
    Fraction,
    Millijoules,
    Milliseconds,
    NotNegative,
    Positive,
    SubnetKey,
    read_form,
)
from ofa_tvm.timing.core_rates import CoreRates
from ofa_tvm.timing.window import Percentile, Timing
from ofa_tvm.tuner.tuning_facts import TuningFacts

FILE_NAME = "result.json"


class _Part(BaseModel):
    # Other keys are the search's own business.
    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class Pick(_Part):
    """One subnet that a search offers, with what was predicted and what was measured.

    A prediction is the one made when this search first chose the subnet. A subnet that an earlier search measured was
    known to the models then; only of the others is the prediction a test of the models.

    Args:
        number: of the pick in its search, from 1.
        subnet: key of the subnet.
        budget_ms: the budget it was searched for; None for a pick of the whole front.
        predicted_ms: latency, with the ends of its 90 % interval.
        measured_ms: told latency on the device, see ``timing``; None where it was not measured.
        timing: the windows behind it; None in results of older versions, and where it was not measured.
        estimated_ms: latency as it is estimated without a device; None where it was measured.
        energy_mj: millijoules of one call, as a GPU's driver counts them; None where nothing does.
        predicted_top1: accuracy as a fraction.
        validation_top1: accuracy on held-out training images.
        validation_error: its standard error.
        expected_top1: validated and predicted accuracy together: the best of several looks better than it is.
        test_top1: accuracy on the test images, which only report.
        test_error: its standard error.
        macs: multiply-accumulates of one image.
        parameters: trainable numbers.
        peak_activation_bytes: largest sum of maps alive at once, one image; None in results of older versions.
        objectives: values of the objectives that the search had besides accuracy and latency.
        dtype: its precision, where the search was in several.
        held: whether the slowest window of all measurements kept the budget; None where there is no budget, or where
            others disturbed the machine too much to say.
        blocks: what it is made of; empty in results of older versions.
        layers: where its time goes; likewise, and where no kernel is tuned.
    """

    number: Count
    subnet: SubnetKey
    budget_ms: NotNegative | None = None
    predicted_ms: Milliseconds
    predicted_low_ms: Milliseconds
    predicted_high_ms: Milliseconds
    measured_ms: Milliseconds | None = None
    timing: Timing | None = None
    estimated_ms: Milliseconds | None = None
    energy_mj: Millijoules | None = None
    predicted_top1: Finite | None = None
    validation_top1: Fraction | None = None
    validation_error: float | None = None
    expected_top1: Finite | None = None
    test_top1: Fraction | None = None
    test_error: float | None = None
    macs: Count
    parameters: Count
    peak_activation_bytes: Count | None = None
    objectives: dict[str, float] = {}
    dtype: DType | None = None
    held: bool | None = None
    blocks: tuple[Block, ...] = ()
    layers: tuple[LayerTime, ...] = ()

    @property
    def error(self) -> float | None:
        """Predicted over verified latency, less one."""
        return self.predicted_ms / self.verified_ms - 1 if self.verified_ms else None

    @property
    def watts(self) -> float | None:
        """What the device drew during its calls, by its own counter; None where nothing counted."""
        return self.energy_mj / self.measured_ms if self.energy_mj and self.measured_ms else None

    @property
    def verified_ms(self) -> float | None:
        """The latency that budgets are compared with: measured, or estimated where there is no device."""
        return self.estimated_ms if self.measured_ms is None else self.measured_ms


class FrontPoint(_Part):
    """One subnet of the predicted front; ``dtype`` is its precision, where the search was in several."""

    subnet: SubnetKey
    predicted_ms: Milliseconds
    predicted_top1: Finite
    objectives: dict[str, float] = {}
    dtype: DType | None = None


class UnmetBudget(_Part):
    """A budget that no subnet holds, with the nearest subnet, measured or (where that sufficed) predicted."""

    budget_ms: NotNegative
    nearest_ms: Milliseconds
    nearest_subnet: SubnetKey


class Verified(_Part):
    """A finalist, as it was predicted and then found: latencies in ms, accuracies as fractions.

    ``is_new``: the models had not learned from its measurement before, so the prediction was a test of them.
    """

    subnet: SubnetKey
    predicted_ms: Milliseconds
    predicted_low_ms: Milliseconds
    predicted_high_ms: Milliseconds
    verified_ms: Milliseconds
    predicted_top1: Finite
    validation_top1: Fraction | None = None
    is_new: bool


class SearchRound(_Part):
    """What one round measured, and the error of predictions for subnets that the models had not learned from.

    Args:
        budget_ms: the budget that was searched for; None for the whole front.
        finalists: subnets that were measured, by key.
        within_budget: how many of them hold it.
        mean_latency_error: of predictions for new subnets, as a fraction; None where there are none.
        verified: those of the finalists that have a latency; empty in results of older versions.
        dtype: their precision, where the search was in several.
    """

    budget_ms: NotNegative | None = None
    finalists: tuple[SubnetKey, ...] = ()
    within_budget: Count = 0
    mean_latency_error: float | None = None
    verified: tuple[Verified, ...] = ()
    dtype: DType | None = None


class CurvePoint(_Part):
    """Errors, as fractions by method, of models fitted to ``samples`` samples."""

    samples: Count
    mape: dict[str, float]


class LatencyQuality(_Part):
    """Cross-validated quality of the latency model and of others; ``mape`` and ``interval_coverage`` are fractions.

    Fields that results of older versions lack are empty.
    """

    mape: float
    spearman: float | None = None
    interval_coverage: float | None = None
    samples: Count
    methods: dict[str, dict[str, float]] = {}
    learning_curve: tuple[CurvePoint, ...] = ()
    mape_with_twice_the_samples: float | None = None
    importance: dict[str, dict[str, float]] = {}


class AccuracyQuality(_Part):
    """Quality of the accuracy predictor on subnets that it has not seen; ``mae`` is a fraction."""

    kendall_tau: float | None = None
    mae: float | None = None
    samples: Count


class SearchResult(_Part):
    """One finished search.

    Args:
        supernet: the checkpoint's path.
        supernet_sha256: of the checkpoint; None in results of older versions.
        target: name of the target.
        target_source: the target as the user gave it, a name or a .toml file; None in results of older versions.
        device: where the user said that code runs; None for the target's own.
        provenance: how latencies were obtained.
        threads: of the target.
        batch: images of one call; None, for the target's own, in results of older versions.
        dtype: of maps and weights; likewise, and None where the search was in several precisions.
        fingerprint: of the target, on the machine that searched.
        fingerprints: likewise of each precision, where the search was in several.
        budgets_ms: the budgets that were asked for, those not met too.
        percentile: which percentile of single calls latencies and budgets are.
        busy_cores: cores that were kept busy while measuring.
        infeasible: the budgets that were not met.
        front_rounds: rounds whose measurements the models had learned from when they predicted the front.
        unmeasured: finalists that wait for a device elsewhere, by key.
        accuracy_note: a caveat about the accuracies; empty where there is none.
        command: the command line that searches the same again; empty in results of older versions.
        created_at: UTC, ISO 8601; likewise.
        ofa_tvm: version that searched; likewise.
        tuning: what the tuning log said of the kernels; None in results of older versions.
        core_rates: what a core of this machine can do at most; None where another device measured.
        unfinished: identity of the work, while the same search has other targets to finish: it takes this result up.
    """

    schema_version: int = Field(ge=1, le=1)
    space: str
    supernet: Path
    supernet_sha256: str | None = None
    target: str
    target_source: str | None = None
    device: str | None = None
    provenance: Provenance = "measured"
    threads: Positive
    batch: Positive | None = None
    dtype: DType | None = None
    fingerprint: str
    fingerprints: dict[DType, str] = {}
    budgets_ms: tuple[NotNegative, ...] = ()
    percentile: Percentile = 50
    busy_cores: Count = 0
    picks: tuple[Pick, ...]
    infeasible: tuple[UnmetBudget, ...] = ()
    front: tuple[FrontPoint, ...] = ()
    front_rounds: Count = 0
    unmeasured: tuple[SubnetKey, ...] = ()
    cost: tuple[Cost, ...] = ()
    cost_model: LatencyQuality | None = None
    accuracy_predictor: AccuracyQuality | None = None
    accuracy_note: str = ""
    conditions: Record = {}
    rounds: tuple[SearchRound, ...] = ()
    command: str = ""
    created_at: str = ""
    ofa_tvm: str = ""
    tuning: TuningFacts | None = None
    core_rates: CoreRates | None = None
    unfinished: str = ""

    @property
    def timed(self) -> tuple[Pick, ...]:
        """The picks whose latency was measured in windows."""
        return tuple(pick for pick in self.picks if pick.timing is not None)

    def pick(self, number: int) -> Pick:
        """The pick of that number.

        Raises:
            UserError: there is none; the message lists the picks.
        """
        picks = [pick for pick in self.picks if pick.number == number]
        if not picks:
            listed = "; ".join(f"{pick.number}: {pick.subnet}" for pick in self.picks) or "the search found none"
            raise UserError(f"the search has no pick {number}", f"picks: {listed}")
        return picks[0]


_RESULT = TypeAdapter(SearchResult)


def load_search_result(folder: Path) -> SearchResult:
    """Read the result of a search.

    Args:
        folder: the run's folder; a relative supernet path may start there.

    Raises:
        UserError: missing, damaged or of another schema; the message names the key.
    """
    path = folder / FILE_NAME
    if not path.exists():
        why = f"is no finished search: {FILE_NAME} is missing" if folder.exists() else "does not exist"
        raise UserError(f"{folder} {why}", "give the folder of a search: its --out; or run 'python -m ofa_tvm.search'")
    hint = f"restore it from a copy, or run the search again; what it says: less {shlex.quote(str(path))}"
    result = read_form(path, "search result", _RESULT, hint)
    in_folder = folder / result.supernet
    supernet = in_folder if not result.supernet.exists() and in_folder.exists() else result.supernet
    return result.model_copy(update={"supernet": supernet})
