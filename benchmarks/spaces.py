"""Which space's networks suit which device: ``python benchmarks/spaces.py runs/mbv3 runs/fused``.

Each folder is a search over the same targets with the same budgets, each of another space's supernet that was trained
on the same images:

    python -m ofa_tvm.search --supernet mbv3-cifar-large --target x86 --target cuda-sm90 --out runs/mbv3 --max-...
    python -m ofa_tvm.search --supernet runs/fused-cifar --target x86 --target cuda-sm90 --out runs/fused --max-...

Of a target's budget, the pick is the most accurate one of all spaces. Then each target's picks are tried on each: how
much slower they are there than the fastest pick of any space that is as accurate, and what they lose to the most
accurate one that is no slower. What one space's search tells of that (``regret.json``) is the same within the space.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from store import keep

from ofa_tvm.measurement.latency_bench import LatencyBench
from ofa_tvm.nas.result import FILE_NAME, Pick, SearchResult, load_search_result
from ofa_tvm.spaces import SearchSpace, SubnetConfig
from ofa_tvm.supernet.facts import checkpoint_path, read_facts
from ofa_tvm.tuner.tuned_space import Target


@dataclass(frozen=True)
class Offered:
    """A pick of a space's search on a target.

    Args:
        space: its name.
        target: that it was searched for.
        pick: the pick.
    """

    space: str
    target: str
    pick: Pick

    @property
    def top1(self) -> float:
        """Expected accuracy, as searches rank by it."""
        known = (self.pick.expected_top1, self.pick.validation_top1, self.pick.predicted_top1)
        return next(one for one in known if one is not None)


@dataclass(frozen=True)
class Latency:
    """Milliseconds of a pick on a target, and whether they are predicted there."""

    ms: float
    is_predicted: bool


def searches_of(folders: Iterable[Path]) -> list[SearchResult]:
    """All searches in folders of one target or of several."""
    found = [path.parent for folder in folders for path in sorted(folder.glob(f"**/{FILE_NAME}"))]
    return [load_search_result(folder) for folder in found]


def spaces_of(searches: Iterable[SearchResult]) -> dict[str, SearchSpace]:
    """The space of each supernet, by name; they must know the same images."""
    spaces: dict[str, SearchSpace] = {}
    images = set()
    for search in searches:
        facts = read_facts(checkpoint_path(search.supernet))
        spaces[search.space] = facts.search_space
        images.add(facts.training.get("data", facts.data))
    if len(images) > 1:
        sys.exit("the supernets were trained on different images, so their accuracies cannot be compared")
    return spaces


def latencies_on(
    search: SearchResult, space: SearchSpace, offered: Iterable[Offered], logs: Path | None
) -> dict[str, Latency]:
    """Of a space's picks on the target of a search, by key: the log's, or what the model there predicts."""
    own = {pick.subnet: pick.verified_ms for pick in search.picks}
    source = search.target_source or search.target
    target = Target.named(source, search.threads, search.batch, search.device, search.dtype, logs)
    bench = LatencyBench(target.tuned(space), None, search.percentile, search.busy_cores)
    model = bench.fit()
    found: dict[str, Latency] = {}
    for subnet in {one.pick.subnet for one in offered if one.space == search.space}:
        config = SubnetConfig.parse(subnet)
        known = own.get(subnet) or bench.latency_ms(config)
        predicted = float(model.mean_ms(space.genomes([config]))[0])
        found[subnet] = Latency(known or predicted, not known)
    return found


def best_of_budgets(offered: list[Offered], target: str) -> dict[float, Offered]:
    """The most accurate pick of all spaces for each budget on a target; of equal ones the faster."""
    best: dict[float, Offered] = {}
    for one in sorted(offered, key=lambda one: (one.top1, -(one.pick.verified_ms or 0.0))):
        if one.target == target and one.pick.budget_ms:
            best[one.pick.budget_ms] = one
    return dict(sorted(best.items()))


def shipped(picks: Iterable[Offered], everything: list[Offered], on: dict[tuple[str, str], Latency]) -> dict[str, Any]:
    """What picks lose on a target beside all that is offered there."""
    rivals = [(one.top1, on[one.space, one.pick.subnet].ms) for one in everything]
    slower, lost, predicted = [], [], 0
    for pick in picks:
        here = on[pick.space, pick.pick.subnet]
        slower.append(here.ms / min(ms for top1, ms in rivals if top1 >= pick.top1) - 1)
        lost.append(max(top1 for top1, ms in rivals if ms <= here.ms) - pick.top1)
        predicted += here.is_predicted
    return {"slower": fmean(slower), "top1_lost": fmean(lost), "picks": len(slower), "predicted": predicted}


def main() -> None:
    """Read, compare, tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="of searches")
    parser.add_argument("--logs", type=Path, help="folder of tuning logs")
    options = parser.parse_args()
    searches = searches_of(options.folders)
    pairs = {(one.space, one.target) for one in searches}
    if len(pairs) < len({space for space, _ in pairs}) * len({target for _, target in pairs}):
        sys.exit("each space needs a search on each target")
    spaces = spaces_of(searches)
    offered = [Offered(search.space, search.target, pick) for search in searches for pick in search.picks]
    on: dict[str, dict[tuple[str, str], Latency]] = {}
    for search in searches:
        found = latencies_on(search, spaces[search.space], offered, options.logs)
        on.setdefault(search.target, {}).update({(search.space, subnet): one for subnet, one in found.items()})
    best = {target: best_of_budgets(offered, target) for target in on}
    report: dict[str, Any] = {"spaces": sorted(spaces), "best": {}, "shipped": {}}
    for target, picks in best.items():
        for budget, one in picks.items():
            ms = on[target][one.space, one.pick.subnet].ms
            print(f"{target}, {budget:g} ms: {one.space} {one.pick.subnet}, {one.top1:.2%}, {ms:.3f} ms")
            row = {"budget_ms": budget, "space": one.space, "subnet": one.pick.subnet, "top1": one.top1, "ms": ms}
            report["best"].setdefault(target, []).append(row)
    for source, picks in best.items():
        for target, latencies in on.items():
            loss = shipped(picks.values(), offered, latencies)
            print(
                f"picks of {source} on {target}: {loss['slower']:+.1%} slower than need be, "
                f"{100 * loss['top1_lost']:.2f} points lost ({loss['predicted']} of {loss['picks']} predicted)"
            )
            report["shipped"].setdefault(source, {})[target] = loss
    keep(f"spaces-{'-'.join(sorted(on))}", report)


if __name__ == "__main__":
    main()
