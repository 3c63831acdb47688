"""``ofa-tvm VERB ...``: run a command; only the verb's module is imported (``python -m ofa_tvm.VERB`` is the same)."""

from __future__ import annotations

import sys
from importlib import import_module

VERBS = {
    "train": "train a supernet",
    "tune": "tune a space's kernels for a target",
    "adopt": "read your own ONNX or torch model",
    "compile": "compile subnets from tuned kernels",
    "search": "find the best subnets for a budget",
    "deploy": "write a subnet as a folder that runs",
    "bench": "time subnets against other engines",
    "predict": "predict a subnet's latency and accuracy",
    "report": "one HTML page of a search",
    "doctor": "check this machine, or a target",
    "onboard": "doctor, tune, search and report for a new device",
    "pack-data": "a data set as a folder for a machine without network",
    "targets": "list the targets",
}
"""Every command: the words on the command line, and what it is for; the only list of them."""


def module_of(verb: str) -> str:
    """The module of a verb, directly in ``ofa_tvm``."""
    return verb.replace("-", "_")


def usage() -> str:
    """The list of verbs."""
    lines = [f"  {verb:<11}{text}" for verb, text in VERBS.items()]
    return "\n".join(["usage: ofa-tvm VERB [OPTIONS]   (ofa-tvm VERB --help explains one)", "", *lines])


def main() -> int:
    """Run the verb that the command line names."""
    verb = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if verb in ("-h", "--help"):
        print(usage())
        return 0
    if verb == "--version":
        from ofa_tvm.api.versions import stack

        for name, found in stack():
            print(name, found, flush=True)
        return 0
    if verb not in VERBS:
        print(f"error: unknown verb '{verb}'\n{usage()}", file=sys.stderr)
        return 2
    command = import_module(f"ofa_tvm.{module_of(verb)}")
    return int(command.main(sys.argv[2:]))


if __name__ == "__main__":
    sys.exit(main())
