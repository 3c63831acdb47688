"""``python -m ofa_tvm.bench``: time random subnets against other engines."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ofa_tvm.support.command import SUPERNET, ArchOption, DTypeOption, JsonFlag, LogsOption, emit, run_command
from ofa_tvm.support.files import Record

if TYPE_CHECKING:
    from ofa_tvm.engines.base import Engine
    from ofa_tvm.engines.own_library import CpuDType
    from ofa_tvm.spaces import SearchSpace

OURS = "ofa_tvm"


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
        str,
        typer.Option(
            help="What to compare with, with commas between them: ort, ort-int8, ort-int8-qoperator, openvino, "
            "openvino-as-installed, openvino-int8 (needs nncf), torch, float32 (our float32), default (our kernels "
            "before any tuning), loops (TVM's unscheduled loops)."
        ),
    ] = "ort,openvino,torch",
    target: Annotated[str, typer.Option(help="Target: a name in targets/, or a .toml file.")] = "x86",
    seconds: Annotated[float, typer.Option(min=0.0, help="Timing of one subnet, all engines together.")] = 4.0,
    dtype: DTypeOption = None,
    logs: LogsOption = None,
    json: JsonFlag = False,
) -> None:
    """Time subnets, or your own model (random weights, batch 1), against other engines.

    Outputs are compared first. Every run is timed by two protocols, each in three windows some time apart: blocks of 20
    runs of an engine in turn, and single runs in turn. A speedup is the other engine's median over ours; above 1 we are
    faster.
    """
    import numpy as np

    from ofa_tvm.engines.comparison import PROTOCOLS, compare
    from ofa_tvm.engines.own_library import cpu_dtype
    from ofa_tvm.hardware.machine import cpu_name
    from ofa_tvm.hardware.target import require_cpu
    from ofa_tvm.hardware.target_files import load_target
    from ofa_tvm.reporting.comparison_text import comparison_text
    from ofa_tvm.spaces.subnet_arguments import choose_subnets
    from ofa_tvm.support.console import log

    search_space, spec = _space(space, supernet, onnx), load_target(target, threads, batch=1, dtype=dtype)
    require_cpu(spec, "bench")
    rng = np.random.default_rng(seed)
    size = search_space.resolutions[-1] if resolution is None else resolution
    configs = choose_subnets(search_space, subnet or (), arch or (), subnets, size, rng)
    engines, missing = _engines(against, target, cpu_dtype(spec.dtype), logs)
    rows: list[Record] = []
    for number, config in enumerate(configs, 1):
        log(f"subnet {number} of {len(configs)}: {config.key}")
        compared = compare(search_space.network(config), engines, threads, seconds, rng)
        rows.append({"subnet": config.key, **compared.record()})
    payload = {
        "space": search_space.name,
        "resolutions": sorted({config.resolution for config in configs}),
        "threads": threads,
        "seed": seed,
        "machine": cpu_name(),
        "target": spec.name,
        "fingerprint": spec.fingerprint,
        "protocols": {name: f"{_counted(runs)} of an engine in turn" for name, runs in PROTOCOLS.items()},
        "engines": {name: engine.record() for name, engine in engines.items()},
        "not_installed": missing,
        "subnets": rows,
        "geomean_speedup": _speedups(rows, engines),
    }
    emit(payload, json, lambda: comparison_text(payload))


def _space(space: str | None, supernet: Path | None, onnx: Path | None) -> SearchSpace:
    from ofa_tvm.supernet.facts import chosen_space
    from ofa_tvm.support.errors import UserError

    if [space, supernet, onnx].count(None) < 2:
        raise UserError("--space, --supernet and --onnx say the same", "give one of them")
    if onnx is None:
        return chosen_space(supernet, space)
    from ofa_tvm.supernet.adopted import read_model

    return read_model(onnx).space


def _engines(against: str, target: str, dtype: CpuDType, logs: Path | None) -> tuple[dict[str, Engine], list[str]]:
    """Engines to time, ours first, and the names of those that are not installed."""
    from ofa_tvm.engines import ENGINES
    from ofa_tvm.engines.own_library import OfaTvm
    from ofa_tvm.engines.tvm_loops import TvmLoops
    from ofa_tvm.support.console import warn
    from ofa_tvm.support.errors import UserError

    engines: dict[str, Engine] = {OURS: OfaTvm(target, logs, dtype=dtype)}
    choices: dict[str, Callable[[], Engine]] = {name: make for name, make in ENGINES.items() if name != OURS}
    choices["default"] = lambda: OfaTvm(target, logs, tuned=False, dtype=dtype)
    choices["float32"] = lambda: OfaTvm(target, logs)
    choices["loops"] = lambda: TvmLoops(target)
    missing = []
    for name in filter(None, (name.strip() for name in against.split(","))):
        if name not in choices:
            raise UserError(f"unknown engine '{name}'", f"choose from {', '.join(choices)}")
        engine = choices[name]()
        if engine.version is None:
            warn(f"{name} is left out: {engine.package} is not installed (pip install {engine.package})")
            missing.append(name)
        else:
            engines[name] = engine
    return engines, missing


def _speedups(rows: list[Record], engines: dict[str, Engine]) -> Record:
    """By protocol and engine: the engine's median over ours."""
    from ofa_tvm.engines.comparison import PROTOCOLS, Speedup

    def ratio(row: Record, protocol: str, name: str) -> float:
        times = row["protocols"][protocol]
        return float(times[name]["median_ms"] / times[OURS]["median_ms"])

    return {
        protocol: {
            name: Speedup.of(ratio(row, protocol, name) for row in rows).record() for name in engines if name != OURS
        }
        for protocol in PROTOCOLS
    }


def _counted(runs: int) -> str:
    return "1 run" if runs == 1 else f"{runs} runs"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(bench, argv)


if __name__ == "__main__":
    sys.exit(main())
