"""``python -m ofa_tvm.doctor``: check this machine, this installation and, when asked, a target."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from ofa_tvm.support.command import DeviceOption, DTypeOption, JsonFlag, emit, run_command

if TYPE_CHECKING:
    from ofa_tvm.checks.machine_checks import Check
    from ofa_tvm.graph.kernel import KernelSpec
    from ofa_tvm.hardware.target import TargetSpec
    from ofa_tvm.tuner.candidate import Candidate
    from ofa_tvm.tuner.trial import TrialResult


def doctor(
    target: Annotated[
        str | None, typer.Option(help="Also check this target: tools, boards, and a tiny kernel that runs there.")
    ] = None,
    device: DeviceOption = None,
    dtype: DTypeOption = None,
    install_emulator: Annotated[
        bool, typer.Option("--install-emulator", help="First set up emulated arm64 boards, for tests (192 MB).")
    ] = False,
    install_headers: Annotated[
        bool, typer.Option("--install-headers", help="First bring the header that bundles need to read PNG and JPEG.")
    ] = False,
    cache: Annotated[
        bool, typer.Option("--cache", help="Only look at the cache: its size, what is damaged, what kills left.")
    ] = False,
    clear_cache: Annotated[
        bool,
        typer.Option("--clear-cache", help="First remove what the cache can make again: compiled kernels, the runner."),
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Check what everything else needs, say what each thing is for, and how to mend what is missing.

    Ends with 0 when nothing fails (warnings are allowed), else with 1.
    """
    if cache or clear_cache:
        _report(_cache(clear_cache), json)
        return
    from ofa_tvm.checks.board_checks import board_checks
    from ofa_tvm.checks.cuda_checks import cuda_checks
    from ofa_tvm.checks.machine_checks import machine_checks, target_checks

    if install_headers:
        from ofa_tvm.compiler.runner_headers import install_header

        install_header()
    if install_emulator:
        from ofa_tvm.devices.emulation.emulator import install_emulator as install

        install()
    # The target first, while this process is small; its worker is a fresh interpreter and shares nothing with it.
    of_target = []
    if target is not None:
        of_target = [
            *target_checks(target, _trial, device, dtype),
            *board_checks(target, device, dtype),
            *cuda_checks(target, device, dtype),
        ]
    _report([*machine_checks(), *of_target], json)


def _cache(clears: bool) -> list[Check]:
    from ofa_tvm.checks.cache_checks import cache_checks
    from ofa_tvm.support.made_again import cache_facts, clear

    if clears:
        clear()
    return list(cache_checks(cache_facts()))


def _report(checks: Sequence[Check], as_json: bool) -> None:
    from dataclasses import asdict
    from itertools import chain, repeat

    from ofa_tvm.checks.meanings import meaning

    failed = sum(check.status == "fail" for check in checks)

    def text() -> str:
        width = max(len(check.name) for check in checks)
        lines = []
        for check in checks:
            lines.append(f"{check.status:<4}  {check.name:<{width}}  {check.found}")
            lines.append(f"{'':<{width + 8}}{meaning(check.name)}")
            for line, mark in zip(check.fix.splitlines(), chain(["->"], repeat("  ")), strict=False):
                lines.append(f"{'':<{width + 8}}{mark} {line}")
        return "\n".join([*lines, f"{failed} of {len(checks)} checks failed" if failed else "all is well"])

    records = [{**asdict(check), "means": meaning(check.name)} for check in checks]
    emit({"failed": failed, "checks": records}, as_json, text)
    if failed:
        raise typer.Exit(1)


def _trial(target: TargetSpec, kernel: KernelSpec, candidate: Candidate) -> TrialResult:
    from ofa_tvm.devices.local.device import LocalDevice

    with LocalDevice(target) as device:
        return device.trial(kernel, candidate, None)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(doctor, argv)


if __name__ == "__main__":
    sys.exit(main())
