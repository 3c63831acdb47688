"""The ledger of one or more folders as SCI for AI (ISO/IEC 21031:2024): what was provided, what its use costs.

SCI is operational and embodied emissions together, per functional unit. Provider (training, tuning, search, deploy) and
consumer (inference) are kept apart, nothing is offset, and what is left out is named.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ofa_tvm.reporting.break_even import Alone, BreakEven, Published, break_even, nothing, published, read_alone
from ofa_tvm.reporting.ledger_folders import STAGES, Delivered, LedgerFolder, Stage, read_folders
from ofa_tvm.support.amounts import Amount, averaged
from ofa_tvm.support.carbon import Assumptions, Footprint, footprint, summed, uses_gpu
from ofa_tvm.support.files import Record
from ofa_tvm.support.ledger import Cost, total
from ofa_tvm.support.power_readings import PowerReadings
from ofa_tvm.timing.inference import IMAGES

PARAMETERS = 1_000_000
"""The provider's functional unit: so many parameters of a delivered network."""
LEFT_OUT = (
    "collecting and labelling the images, storage and networks",
    "machines that wait, and attempts outside these folders",
    "what the energy of memory, disks and power supplies adds to a processor's counters or to watts a core",
    "end of life, beyond what a manufacturer's figure includes",
)


@dataclass(frozen=True)
class Provided:
    """Work of one stage in one folder; ``cost`` is the sum of its phases."""

    stage: Stage
    folder: Path
    target: str | None
    cost: Cost
    phases: int
    footprint: Footprint


@dataclass(frozen=True)
class Consumed:
    """Inference of ``IMAGES`` images by one delivered network; ``milliseconds`` is the latency of a call."""

    network: Delivered
    folder: Path
    milliseconds: float
    cost: Cost
    footprint: Footprint


@dataclass(frozen=True)
class ProviderScore:
    """Emissions of all that was provided but other networks' deployment, per ``PARAMETERS`` of its parameters."""

    network: Delivered
    emissions: Amount


@dataclass(frozen=True)
class SciReport:
    """The whole report.

    Args:
        assumptions: what emissions are computed with.
        provided: the provider's side, stage by stage.
        provider: its sum.
        scores: the provider's score by delivered network.
        consumed: the consumer's side.
        marginal: cost of one more target: tuning, search and deploy, the mean over targets; None without any.
        targets: how many were counted for it.
        break_even: against training, and tuning, each net alone.
        published: OFA's own table, compared with itself.
        published_source: where it is from.
        left_out: what is not counted.
    """

    assumptions: Assumptions
    provided: tuple[Provided, ...]
    provider: Footprint
    scores: tuple[ProviderScore, ...]
    consumed: tuple[Consumed, ...]
    marginal: Footprint | None
    targets: int
    break_even: tuple[BreakEven, ...]
    published: tuple[Published, ...]
    published_source: str
    left_out: tuple[str, ...]

    @property
    def has_gpu(self) -> bool:
        """Whether a GPU's manufacture is in it."""
        costs = [*(one.cost for one in self.provided), *(one.cost for one in self.consumed)]
        return any(map(uses_gpu, costs))

    def record(self) -> Record:
        """As a JSON object."""
        return {
            "standard": "ISO/IEC 21031:2024 (SCI), SCI for AI",
            "offsets": 0,
            "assumptions": self.assumptions.record(),
            "provider": {
                "functional_unit": f"{PARAMETERS} parameters of a delivered network",
                "stages": [
                    {
                        "stage": one.stage,
                        "folder": str(one.folder),
                        "target": one.target,
                        "phases": one.phases,
                        "cost": one.cost.record(),
                        **one.footprint.record(),
                    }
                    for one in self.provided
                ],
                "total": self.provider.record(),
                "scores": [{**_named(one.network), "emissions": one.emissions.record()} for one in self.scores],
                "marginal_target": None if self.marginal is None else self.marginal.record(),
                "targets": self.targets,
            },
            "consumer": {
                "functional_unit": f"inference of {IMAGES} images",
                "networks": [
                    {
                        **_named(one.network),
                        "folder": str(one.folder),
                        "milliseconds": one.milliseconds,
                        "cost": one.cost.record(),
                        **one.footprint.record(),
                    }
                    for one in self.consumed
                ],
            },
            "break_even": [one.record() for one in self.break_even],
            "published": {"source": self.published_source, "rows": [one.record() for one in self.published]},
            "left_out": list(self.left_out),
        }


def _named(network: Delivered) -> Record:
    names = ("subnet", "target", "dtype", "parameters")
    return {name: getattr(network, name) for name in names}


def sci_report(
    paths: Sequence[Path],
    assumptions: Assumptions,
    alone: Sequence[Path] = (),
    meter: Path | None = None,
    watts: float | None = None,
) -> SciReport:
    """Read folders and account for them.

    Args:
        paths: folders of searches, trainings, tuning logs and bundles; several add up, each counts once.
        assumptions: what emissions are computed with.
        alone: nets trained or tuned alone, for the break-even; see ``read_alone``.
        meter: a power meter's readings, which replace the energy of phases that they cover.
        watts: what the device draws while it infers, by a meter.

    Raises:
        UserError: a folder or file says nothing, or is damaged.
    """
    folders = read_folders(paths, watts)
    readings = None if meter is None else PowerReadings.read(meter)
    left_out = list(LEFT_OUT)
    provided = _provided(folders, assumptions, readings, left_out)
    if readings is not None and not any(readings.name in one.cost.method for one in provided):
        left_out.append(f"the readings of {readings.name}: they cover no phase of these folders whole")
    provider = summed([one.footprint for one in provided])
    consumed, scores = [], []
    for folder, net in _networks(folders):
        emissions = summed(_for(net, folders, provided)).emissions
        scores.append(ProviderScore(net, emissions.times(PARAMETERS / net.parameters)))
        if net.inference is None:
            left_out.append(f"inference of {net.subnet} ({folder.path}): {net.unknown}")
            continue
        cost = net.inference.cost(IMAGES)
        consumed.append(Consumed(net, folder.path, net.inference.ms[0], cost, footprint(cost, assumptions)))
    each = _each_target(provided)
    marginal = None if not each else Footprint(*map(averaged, zip(*map(_parts, each), strict=True)))
    source, rows = published()
    return SciReport(
        assumptions,
        tuple(provided),
        provider,
        tuple(scores),
        tuple(consumed),
        marginal,
        len(each),
        tuple(_break_even(provided, folders, each, read_alone(list(alone)))),
        rows,
        source,
        tuple(left_out),
    )


def _networks(folders: Sequence[LedgerFolder]) -> list[tuple[LedgerFolder, Delivered]]:
    """Each delivered network once, with the folder that knows it best: a bundle's own measurement before a search's."""
    found: dict[tuple[str, str, str], tuple[LedgerFolder, Delivered]] = {}
    for folder in folders:
        for net in folder.delivered:
            if net.identity not in found or (folder.stage == "deploy" != found[net.identity][0].stage):
                found[net.identity] = (folder, net)
    return list(found.values())


def _for(net: Delivered, folders: Iterable[LedgerFolder], provided: Iterable[Provided]) -> list[Footprint]:
    """What was provided for a network: all but the deployment of others."""
    own = {folder.path for folder in folders if net.identity in {one.identity for one in folder.delivered}}
    return [one.footprint for one in provided if one.stage != "deploy" or one.folder in own]


def _parts(one: Footprint) -> tuple[Amount, Amount, Amount]:
    return one.energy, one.operational, one.embodied


def _provided(
    folders: Iterable[LedgerFolder], given: Assumptions, readings: PowerReadings | None, left_out: list[str]
) -> list[Provided]:
    """Each folder's work by stage; what is not counted of it is added to ``left_out``."""
    folders = list(folders)
    spaces = {folder.space for folder in folders if folder.space is not None}
    seen: set[tuple[float | str, ...]] = set()
    found = []
    for folder in sorted(folders, key=lambda one: (STAGES.index(one.stage), one.has_copies)):
        costs = folder.of_spaces(spaces)
        if others := len(folder.costs) - len(costs):
            left_out.append(f"{others} phases of other spaces in {folder.path}")
        if folder.elsewhere:
            left_out.append(f"what the device itself drew in {folder.path}: its ledger counts the machine that asked")
        if any("GPU not counted" in cost.method for cost in costs):
            left_out.append(f"the GPU's energy in {folder.path}: its driver's count was not there")
        new = [cost for cost in costs if cost.work not in seen or not (folder.has_copies or cost.ended_at)]
        seen.update(cost.work for cost in new)
        for stage, part in _by_stage(folder.stage, new).items():
            cost = total(stage, part if readings is None else map(readings.metered, part))
            found.append(Provided(stage, folder.path, folder.target, cost, len(part), footprint(cost, given)))
    return found


def _by_stage(stage: Stage, costs: Sequence[Cost]) -> dict[Stage, list[Cost]]:
    """A bundle's costs begin with those of its search; all others are of their folder's stage."""
    if stage != "deploy":
        return {stage: list(costs)} if costs else {}
    parts: dict[Stage, list[Cost]] = {"search": [], "deploy": []}
    for cost in costs:
        parts["deploy" if cost.phase.startswith("deploy") else "search"].append(cost)
    return {name: part for name, part in parts.items() if part}


def _each_target(provided: Iterable[Provided]) -> list[Footprint]:
    """What was done for each target."""
    by_target: dict[str, list[Footprint]] = {}
    for one in provided:
        if one.target is not None:
            by_target.setdefault(one.target, []).append(one.footprint)
    return [summed(parts) for parts in by_target.values()]


def _break_even(
    provided: Sequence[Provided], folders: Sequence[LedgerFolder], each: Sequence[Footprint], alone: Alone
) -> Iterable[BreakEven]:
    trained = [one.footprint for one in provided if one.stage == "train"]
    tuned = [one.footprint for one in provided if one.stage == "tune"]
    if trained and alone.trained is not None:
        marginal = averaged(one.energy for one in each) if each else nothing()
        assumed = [
            f"a net alone costs the mean of {alone.runs} trainings, between the cheapest and the dearest",
            "a net alone is neither searched for nor tuned, which favours it",
        ]
        if not each:
            assumed.append("no log, search or bundle was given: one more target is taken to cost nothing")
        yield break_even(
            "training each net alone", "targets", summed(trained).energy, marginal, alone.trained, tuple(assumed)
        )
    if not tuned:
        return
    other, how = alone.tuned, f"the mean of {alone.tunings} tunings"
    kernels = [net.kernels for folder in folders for net in folder.delivered if net.kernels]
    by_kernel = [one for folder in folders if (one := folder.tuning_a_kernel()) is not None]
    if other is None and kernels and by_kernel:
        other = averaged(by_kernel).times(sum(kernels) / len(kernels), "estimated")
        how = f"as much a kernel as the log's, for {sum(kernels) / len(kernels):g} kernels"
    if other is not None:
        yield break_even(
            "tuning each net alone",
            "nets on a target",
            averaged(one.energy for one in tuned),
            nothing(),
            other,
            (
                f"a net tuned alone costs {how}",
                "kernels of the space are tuned once, a further net takes no trial; both ways deploy each net",
            ),
        )
