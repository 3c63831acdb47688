"""``python -m ofa_tvm.predict``: latency and accuracy of subnets, predicted without running anything."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ofa_tvm.support.command import (
    SUPERNET,
    ArchOption,
    BatchOption,
    DeviceOption,
    DTypeOption,
    JsonFlag,
    LogsOption,
    emit,
    run_command,
)

ACCURACY_NOTES = {"int8": " (accuracies are those of float32; a search counts its own)"}


def predict(
    subnet: Annotated[
        list[str] | None, typer.Option(help="Key of a subnet, or largest, or smallest; repeat for several.")
    ] = None,
    arch: ArchOption = None,
    random: Annotated[
        int, typer.Option(min=0, max=1_000_000, help="So many random subnets, too (at most 1,000,000).")
    ] = 0,
    layers: Annotated[
        bool, typer.Option("--layers", help="Also where the time goes, layer by layer (always, for one subnet).")
    ] = False,
    csv: Annotated[Path | None, typer.Option(help="Write the predictions into this table instead.")] = None,
    target: Annotated[str, typer.Option(help="Target: a name in targets/, or a .toml file.")] = "x86",
    space: Annotated[str | None, typer.Option(help="Search space (default: the supernet's, or mbv3-cifar).")] = None,
    supernet: Annotated[Path | None, typer.Option(help=f"{SUPERNET} (default: that of the space).")] = None,
    device: DeviceOption = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads instead of the target's.")] = None,
    batch: BatchOption = None,
    dtype: DTypeOption = None,
    classes: Annotated[int | None, typer.Option(min=2, help="Classes, where not those of the space.")] = None,
    logs: LogsOption = None,
    block_table: Annotated[
        Path | None,
        typer.Option(help="OFA's published block latencies (a .yaml file, or a folder) instead of a target."),
    ] = None,
    fit: Annotated[
        Path | None,
        typer.Option(help="Fit the latency model to a file of measured latencies instead, and say how good it is."),
    ] = None,
    base: Annotated[
        Path | None,
        typer.Option(
            help="With --fit: latencies of another device to start from, or OFA's block latencies (a folder)."
        ),
    ] = None,
    train: Annotated[int, typer.Option(min=10, help="With --fit: random subnets to fit.")] = 100,
    test: Annotated[
        int | None, typer.Option(min=10, help="With --fit: other subnets to ask about (default: all others).")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of random subnets; with --fit, of the split.")] = 0,
    json: JsonFlag = False,
) -> None:
    """Predict what subnets take on a target, with the 90 % interval, where it goes, and how accurate they are.

    The latency model is the one that tune fitted to measured subnets; the accuracy predictor belongs to a supernet.
    """
    import numpy as np

    from ofa_tvm.hardware.target_files import load_target
    from ofa_tvm.measurement import prediction
    from ofa_tvm.reporting.prediction_text import basis_text, coverage_text, fit_text, predictions_text, sums_text
    from ofa_tvm.spaces.architectures import read_architectures
    from ofa_tvm.supernet.facts import space_and_checkpoint, trained_resolutions, untrained
    from ofa_tvm.support.console import warn
    from ofa_tvm.support.errors import UserError
    from ofa_tvm.tuner.log import opened_log
    from ofa_tvm.tuner.tuned_space import TunedSpace

    search_space, checkpoint = space_and_checkpoint(supernet, space, classes)
    if fit is not None:
        payload = prediction.fit_quality(search_space, fit, base, train, test, seed)
        emit(payload, json, lambda: fit_text(payload))
        return
    configs = [search_space.parse(key) for key in subnet or ()]
    configs += [config for source in arch or () for config in read_architectures(source, search_space)]
    trained = trained_resolutions(checkpoint)
    configs += search_space.with_resolutions(trained).sample_configs(np.random.default_rng(seed), random)
    if not configs:
        raise UserError(
            "no subnet is named",
            "give --subnet KEY, --arch FILE or --random COUNT (or --fit FILE of measured latencies)",
        )
    if block_table is not None:
        payload = {
            "space": search_space.name,
            "block_table": str(block_table),
            "subnets": prediction.block_sums(search_space, block_table, configs),
        }
        emit(payload, json, lambda: sums_text(payload["subnets"]))
        return
    spec = load_target(target, threads, batch, device, dtype)
    tuned = TunedSpace(search_space, spec, opened_log(spec, logs))
    if said := untrained((config.resolution for config in configs), trained):
        warn(f"beware: the supernet {said}: accuracies elsewhere are not known")
    with_layers = layers or (len(configs) == 1 and csv is None)
    predicted = prediction.predictions(tuned, configs, checkpoint and checkpoint.parent, with_layers, trained)
    if csv is not None:
        prediction.write_table(csv, predicted)
        emit({"csv": str(csv), "count": len(predicted)}, json, lambda: f"wrote {len(predicted)} predictions to {csv}")
        return
    payload = {
        "space": search_space.name,
        "target": spec.name,
        "fingerprint": spec.fingerprint,
        "threads": spec.threads,
        "dtype": spec.dtype,
        "provenance": spec.provenance,
        "tuned_kernels": tuned.tuned_kernels,
        "kernels": len(tuned.kernels()),
        "subnets": [subnet.record() for subnet in predicted],
    }
    note = f"{spec.name}, threads {spec.threads}, batch {spec.batch}, {spec.dtype}{ACCURACY_NOTES.get(spec.dtype, '')}"
    note += f", {basis_text(predicted, spec.provenance)}{coverage_text(tuned)}"
    emit(payload, json, lambda: f"{predictions_text(predicted)}\n{note}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(predict, argv)


if __name__ == "__main__":
    sys.exit(main())
