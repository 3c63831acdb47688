"""``python -m ofa_tvm.compile``: compile subnets from tuned kernels and say what each stage took."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ofa_tvm.support.command import (
    GOES_ON,
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

if TYPE_CHECKING:
    from ofa_tvm.bundle.library import CompiledSubnet
    from ofa_tvm.graph.weights import Weights
    from ofa_tvm.spaces import SearchSpace, SubnetConfig
    from ofa_tvm.support.dtype import DType

    WeightsOf = Callable[[SubnetConfig], Weights]


def compile_subnets(
    target: Annotated[str, typer.Option(help="Target: a name in targets/, or a .toml file.")] = "x86",
    device: DeviceOption = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads instead of the target's.")] = None,
    batch: BatchOption = None,
    dtype: DTypeOption = None,
    space: Annotated[str | None, typer.Option(help="Search space (default: the supernet's, or mbv3-cifar).")] = None,
    resolution: Annotated[int | None, typer.Option(help="Input size of random subnets (default: any).")] = None,
    random: Annotated[
        int | None, typer.Option(min=0, help="Random subnets (default: 5 where no --subnet is given).")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of random subnets and weights.")] = 0,
    subnet: Annotated[list[str] | None, typer.Option(help="Key, largest or smallest; repeat for several.")] = None,
    arch: ArchOption = None,
    supernet: Annotated[Path | None, typer.Option(help=f"{SUPERNET} (default: random weights).")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the compiled libraries.")] = None,
    logs: LogsOption = None,
    json: JsonFlag = False,
) -> None:
    """Compile subnets without any tuning trial, and check each against another engine.

    For a GPU, which need not be here, the library holds the device code and is not run.
    Weights of a supernet are not recalibrated here; 'deploy' does that.
    """
    import numpy as np

    from ofa_tvm.bundle.library import compile_subnet
    from ofa_tvm.compiler.threads import use_threads
    from ofa_tvm.devices import library_loader
    from ofa_tvm.hardware.target_files import load_target
    from ofa_tvm.reporting.compilation_text import compiled_text
    from ofa_tvm.spaces.subnet_arguments import choose_subnets
    from ofa_tvm.support.console import log
    from ofa_tvm.tuner.log import opened_log

    spec = load_target(target, threads, batch, device, dtype)
    search_space, weights_of = (
        _trained(supernet, space, spec.dtype) if supernet else _untrained(space, seed, spec.dtype)
    )
    configs = choose_subnets(search_space, subnet or (), arch or (), random, resolution, np.random.default_rng(seed))
    use_threads(spec.threads)
    winners = opened_log(spec, logs).winners
    compiled: list[CompiledSubnet] = []
    with library_loader(spec) as load:
        for config in configs:
            library = None if out is None else out / f"{config.key}{spec.library_suffix}"
            log(f"compiling {config.key}")
            network = search_space.network(config)
            compiled.append(compile_subnet(config.key, network, weights_of(config), spec, winners, library, load))
    payload = {
        "target": spec.name,
        "fingerprint": spec.fingerprint,
        "threads": spec.threads,
        "space": search_space.name,
        "weights": "random" if supernet is None else "supernet",
        "trials": 0,
        "subnets": [result.record() for result in compiled],
    }
    emit(payload, json, lambda: compiled_text(compiled, spec.fingerprint))


def _untrained(name: str | None, seed: int, dtype: DType) -> tuple[SearchSpace, WeightsOf]:
    """A space with random weights."""
    from ofa_tvm.graph.quantisation import untrained_weights
    from ofa_tvm.supernet.facts import chosen_space

    space = chosen_space(None, name)
    return space, lambda config: untrained_weights(space.network(config), dtype, seed)


def _trained(path: Path, space: str | None, dtype: DType) -> tuple[SearchSpace, WeightsOf]:
    """Space and weights of a supernet, not recalibrated: what is compiled and compared here is no accuracy."""
    from ofa_tvm.graph.quantisation import uncalibrated_weights
    from ofa_tvm.supernet.checkpoint import load_supernet
    from ofa_tvm.supernet.subnet import extract

    supernet, facts = load_supernet(path)
    facts.space_unless_other(space)

    def weights_of(config: SubnetConfig) -> Weights:
        subnet = extract(supernet, config)
        return uncalibrated_weights(subnet.network, subnet.folded(), dtype)

    return supernet.space, weights_of


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(compile_subnets, argv, "compile", saved=GOES_ON)


if __name__ == "__main__":
    sys.exit(main())
