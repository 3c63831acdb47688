"""``python -m ofa_tvm.bench``: time random subnets against other engines."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ofa_tvm.support.command import (
    SUPERNET,
    ArchOption,
    DTypeOption,
    JsonFlag,
    LogsOption,
    emit,
    emit_partly,
    run_command,
)

if TYPE_CHECKING:
    from ofa_tvm.spaces import SearchSpace


def bench(
    space: Annotated[str | None, typer.Option(help="Search space (default: the supernet's, or mbv3-cifar).")] = None,
    supernet: Annotated[
        Path | None, typer.Option(help=f"{SUPERNET}, or an adopted model: its space, with random weights.")
    ] = None,
    onnx: Annotated[Path | None, typer.Option(help="Your own model, an .onnx or .pt2 file, instead.")] = None,
    resolution: Annotated[int | None, typer.Option(help="Input size of random subnets (default: the largest).")] = None,
    subnet: Annotated[list[str] | None, typer.Option(help="Key, largest or smallest; repeat for several.")] = None,
    arch: ArchOption = None,
    subnets: Annotated[int | None, typer.Option(min=1, help="Random subnets (default: 5 where none is named).")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of subnets, weights, images and order.")] = 7,
    threads: Annotated[int, typer.Option(min=1, help="Threads of every engine.")] = 1,
    against: Annotated[
        str | None,
        typer.Option(
            help="What to compare with, with commas between them: ort, ort-int8, ort-int8-qoperator, openvino, "
            "openvino-as-installed, openvino-int8 (needs nncf), litert, litert-int8, torch, float32, bfloat16, "
            "float16, int8 (ours in these), default (our kernels before any tuning), loops (TVM's unscheduled "
            "loops); on a GPU torch, default, float32 (default: ort,openvino,torch; on a GPU torch)."
        ),
    ] = None,
    target: Annotated[str, typer.Option(help="Target: a name in targets/, or a .toml file.")] = "x86",
    seconds: Annotated[
        float, typer.Option(min=0.0, max=86400.0, help="Timing of one subnet, all engines together.")
    ] = 4.0,
    dtype: DTypeOption = None,
    starts: Annotated[int, typer.Option(min=0, help="Fresh processes of each engine: load time, memory.")] = 1,
    layers: Annotated[bool, typer.Option("--layers", help="Profile the first subnet layer by layer.")] = False,
    export: Annotated[Path | None, typer.Option(help="Write the result to this JSON file, too.")] = None,
    compare: Annotated[
        tuple[Path, Path] | None, typer.Option(help="Instead: two exported results beside each other.")
    ] = None,
    anyway: Annotated[bool, typer.Option("--anyway", help="Compare those of other machines or conditions.")] = False,
    logs: LogsOption = None,
    json: JsonFlag = False,
) -> None:
    """Time subnets, or your own model (random weights, batch 1), against other engines.

    Outputs are compared first. Every run is timed by two protocols, each in three windows some time apart: blocks of 20
    runs of an engine in turn, and single runs in turn. A speedup is the other engine's median over ours; above 1 we are
    faster.
    """
    from ofa_tvm.engines.benchmark import Effort, benchmark
    from ofa_tvm.engines.choice import chosen_engines
    from ofa_tvm.engines.two_results import compare_results, read_result
    from ofa_tvm.engines.two_results import export as write_result
    from ofa_tvm.hardware.target_files import load_target
    from ofa_tvm.reporting.comparison_text import comparison_text, two_results_text
    from ofa_tvm.spaces.subnet_arguments import choose_subnets
    from ofa_tvm.support.errors import PartialResult

    if compare is not None:
        first, second = map(read_result, compare)
        change = compare_results(first, second, anyway)
        emit(change, json, lambda: two_results_text(change))
        return
    import numpy as np

    search_space, spec = _space(space, supernet, onnx), load_target(target, threads, batch=1, dtype=dtype)
    engines, missing = chosen_engines(against, target, spec, logs)
    size = search_space.resolutions[-1] if resolution is None else resolution
    configs = choose_subnets(search_space, subnet or (), arch or (), subnets, size, np.random.default_rng(seed))
    networks = {config.key: search_space.network(config) for config in configs}
    payload = {
        "space": search_space.name,
        "resolutions": sorted({config.resolution for config in configs}),
        "target": spec.name,
        "fingerprint": spec.fingerprint,
        "not_installed": missing,
        **benchmark(networks, engines, Effort(threads, seconds, seed, starts, layers)),
    }
    unwritten: PartialResult | None = None
    try:
        if export is not None:
            write_result(export, payload)
    except OSError as error:
        unwritten = PartialResult(f"{export} cannot be written: {error.strerror}", "name another file with --export")
    emit_partly(payload, json, lambda: comparison_text(payload), unwritten)


def _space(space: str | None, supernet: Path | None, onnx: Path | None) -> SearchSpace:
    from ofa_tvm.supernet.facts import chosen_space
    from ofa_tvm.support.errors import UserError

    if [space, supernet, onnx].count(None) < 2:
        raise UserError("--space, --supernet and --onnx say the same", "give one of them")
    if onnx is None:
        return chosen_space(supernet, space)
    from ofa_tvm.supernet.adopted import read_model

    return read_model(onnx).space


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(bench, argv)


if __name__ == "__main__":
    sys.exit(main())
