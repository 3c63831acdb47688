"""Search a supernet for a target, and deploy what was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from ofa_tvm.api.arguments import AtLeastOne, Count, Positive, checked
from ofa_tvm.api.bundles import Bundle, load_bundle
from ofa_tvm.api.loading import SupernetFile
from ofa_tvm.bundle.order import Order
from ofa_tvm.measurement.kernel_times import SAMPLES
from ofa_tvm.nas import session
from ofa_tvm.nas.opened_accuracy import Evaluation
from ofa_tvm.nas.request import SearchRequest
from ofa_tvm.nas.result import SearchResult, load_search_result
from ofa_tvm.nas.settings import SearchSettings
from ofa_tvm.tuner.tuned_space import Target


class FinishedSearch:
    """A search's result and its folder.

    Args:
        folder: of the search.

    Raises:
        UserError: it holds no finished search.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.result: SearchResult = load_search_result(self.folder)


@checked
def search(
    supernet: SupernetFile,
    target: Target,
    max_latency_ms: Positive | Sequence[Positive] = (),
    *,
    limits: Mapping[str, Positive] | None = None,
    resolutions: Sequence[int] | None = None,
    data: str | None = None,
    samples: AtLeastOne = SAMPLES,
    seed: Count = 0,
    out: Path | str | None = None,
) -> FinishedSearch:
    """Find the most accurate subnet for each latency budget, or the whole front; measured on the target's device.

    Args:
        supernet: the supernet whose subnets are searched.
        target: the target that they will run on.
        max_latency_ms: a budget or several; none for the front.
        limits: the most that a pick may have of ``size`` (MB), ``macs`` (millions), ``memory`` (MB), ``energy`` (mJ).
        resolutions: input sizes that picks may have; None for all that are trained.
        data: where the supernet's images are, as for ``train --data``.
        samples: measured subnets that the latency model starts from.
        seed: of the search.
        out: folder of the result; None for one in ``runs/``, named by the time.

    Raises:
        UserError: something cannot be read.
        Infeasible: no budget can be met.
    """
    budgets = [max_latency_ms] if isinstance(max_latency_ms, int | float) else max_latency_ms
    settings = SearchSettings(seed=seed, limits=dict(limits or {}))
    folder = Path("runs") / f"search-{datetime.now(UTC):%Y%m%d-%H%M%S}" if out is None else Path(out)
    evaluation = Evaluation(data)
    request = SearchRequest(
        supernet.path,
        [target],
        folder,
        sorted(budgets),
        settings,
        resolutions or (),
        evaluation=evaluation,
        samples=samples,
    )
    session.search(request)
    return FinishedSearch(folder)


@checked
def deploy(
    finished: FinishedSearch | Path | str,
    pick: AtLeastOne,
    out: Path | str,
    *,
    data: str | None = None,
    check_images: Count | None = None,
    logs: Path | str | None = None,
) -> Bundle:
    """Write a pick of a search as a bundle: library, ONNX file, manifest and a program that runs it.

    Args:
        finished: the search, or its folder.
        pick: its number.
        out: folder of the bundle; an older bundle there is replaced.
        data: as for ``search``.
        check_images: test images that the library must classify as torch does; None for all.
        logs: folder of tuning logs.

    Raises:
        UserError: there is no such pick, or its figures do not hold here.
        OfaTvmError: the library does not compute what it should.
    """
    folder = finished.folder if isinstance(finished, FinishedSearch) else Path(finished)
    order = Order.of_search(folder, pick, None)
    order.write(Path(out), data, None if logs is None else Path(logs), check_images)
    return load_bundle(out)
