"""``python -m ofa_tvm.deploy``: write a subnet as a folder that runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ofa_tvm.cli import JsonFlag, emit, run_command, table
from ofa_tvm.energy import Cost, Meter, total

if TYPE_CHECKING:
    from ofa_tvm.deployment import Deployment
    from ofa_tvm.manifest import Manifest
    from ofa_tvm.search_result import Pick


@dataclass(frozen=True)
class Order:
    """What is to be deployed: as said on the command line, or as a search picked it (and what that has cost)."""

    subnet: str
    supernet: Path | None
    target: str
    threads: int | None
    pick: Pick | None = None
    spent: tuple[Cost, ...] = ()


def deploy(
    out: Annotated[Path, typer.Option(help="Folder of the bundle; an older bundle there is replaced.")],
    subnet: Annotated[str | None, typer.Option(help="Key of the subnet, or largest, or smallest.")] = None,
    supernet: Annotated[Path | None, typer.Option(help="Checkpoint or training folder (default: shipped).")] = None,
    target: Annotated[str | None, typer.Option(help="Target: a name in targets/, or a .toml file (x86).")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads instead of the target's.")] = None,
    data: Annotated[
        str | None, typer.Option(help="Images, name or name:PATH (default: what the supernet was trained on).")
    ] = None,
    logs: Annotated[Path | None, typer.Option(help="Folder of tuning logs (default: tuning_logs/).")] = None,
    check_images: Annotated[
        int | None, typer.Option(min=0, help="Test images to check the accuracy on; 0 for none (default: all).")
    ] = None,
    from_: Annotated[Path | None, typer.Option("--from", help="Folder of a search; needs --pick.")] = None,
    pick: Annotated[int | None, typer.Option(min=1, help="Number of the pick of that search.")] = None,
    json: JsonFlag = False,
) -> None:
    """Write a subnet as a bundle: compiled library, ONNX file and manifest.

    The library is built from tuning records without further trials, and put in place only if it classifies the test
    images as the torch subnet does.
    """
    from ofa_tvm.bundle import check_destination
    from ofa_tvm.errors import UserError
    from ofa_tvm.search_result import load_search_result

    if (from_ is None) != (pick is None) or (from_ is None) == (subnet is None):
        raise UserError("which subnet to deploy is not said once", "give --subnet KEY, or --from FOLDER with --pick N")
    check_destination(out)
    order = Order(subnet or "", supernet, target or "x86", threads)
    if from_ is not None and pick is not None:
        if target is not None or threads is not None:
            raise UserError("--target and --threads are the search's", "for another target give --subnet KEY")
        result = load_search_result(from_)
        chosen = result.pick(pick)
        order = Order(chosen.subnet, supernet or result.supernet, result.target, result.threads, chosen, result.cost)
    manifest = _deployment(order, data, logs, check_images).write(out)
    cost = total("total", manifest.cost)
    payload = {"out": str(out), "manifest": manifest.record(), "cost": cost.record()}
    emit(payload, json, lambda: _text(manifest, cost, out))


def _deployment(order: Order, data: str | None, logs: Path | None, check_images: int | None) -> Deployment:
    from ofa_tvm.targets import load_target

    target = load_target(order.target, order.threads)
    meter = Meter()
    # TVM before torch: it would load more of torch otherwise.
    from ofa_tvm.deployment import Deployment  # isort: skip
    from ofa_tvm.console import log
    from ofa_tvm.data import load_dataset
    from ofa_tvm.errors import UserError
    from ofa_tvm.shipped import shipped_supernet
    from ofa_tvm.supernet.checkpoint import checkpoint_path, load_supernet
    from ofa_tvm.tuner.log import TuningLog

    checkpoint = checkpoint_path(order.supernet or shipped_supernet())
    model, facts = load_supernet(checkpoint)
    config = model.space.parse(order.subnet)
    records = TuningLog(target, logs).best_records()
    dataset = load_dataset(data or facts.data, log)
    if dataset.class_names != facts.class_names:
        raise UserError(
            f"{data or facts.data} has other classes than {checkpoint} was trained on",
            f"give the images of {facts.data}: --data {facts.data}:PATH",
        )
    return Deployment(
        supernet=model,
        facts=facts,
        checkpoint=checkpoint,
        config=config,
        # Calibrate and check with what the weights were trained with.
        dataset=replace(dataset, preprocess=facts.preprocess),
        target=target,
        records=records,
        check_images=len(dataset.test) if check_images is None else check_images,
        pick=order.pick,
        costs=[*order.spent, meter.read("deploy: load")],
    )


def _text(manifest: Manifest, cost: Cost, out: Path) -> str:
    """What a person reads of a manifest."""
    accuracy, latency, target = manifest.accuracy, manifest.latency, manifest.target
    rows = [
        ["subnet", manifest.subnet],
        ["input", f"{manifest.input.name} {manifest.input.shape} {manifest.input.layout} {manifest.input.dtype}"],
        ["size", f"{manifest.macs / 1e6:.1f} M MACs, {manifest.parameters / 1e6:.2f} M parameters"],
        ["target", f"{target.name}, {target.threads} threads ({target.fingerprint})"],
        ["kernels", f"{target.tuned_kernels} tuned, {target.default_kernels} by default schedule, 0 trials"],
        ["measured", f"{latency.measured_ms:.3f} ms, median of {len(latency.repeats_ms)}"],
    ]
    if latency.predicted_ms is not None:
        interval = ""
        if latency.predicted_low_ms is not None and latency.predicted_high_ms is not None:
            interval = f" ({latency.predicted_low_ms:.3f} to {latency.predicted_high_ms:.3f})"
        rows.append(["predicted", f"{latency.predicted_ms:.3f} ms{interval}"])
    top1 = "not checked" if accuracy.test_top1 is None else f"{accuracy.test_top1:.2%} of {accuracy.test_images} images"
    rows.append(["test top-1", top1])
    rows.append(["logits", f"within {accuracy.max_relative_logit_difference:.1e} of the torch subnet's"])
    costs = [
        [part.phase, f"{part.wall_s:.1f}", f"{part.cpu_s:.1f}", f"{1e3 * part.energy_kwh:.3g}"]
        for part in (*manifest.cost, cost)
    ]
    return "\n".join(
        [
            *(f"{name:<12}{value}" for name, value in rows),
            "",
            "what this deployment cost",
            table(["phase", "wall s", "CPU s", "Wh"], costs),
            f"energy: {cost.method}",
            f"wrote {out}",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(deploy, argv)


if __name__ == "__main__":
    sys.exit(main())
