"""The whole way on this machine: tune a little further, search for two budgets, compare, report, deploy, run.

Run by ``make demo``. What is already done (data, tuning, measurements) is not done again.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

RUNS = Path("runs")
SEARCH = RUNS / "demo-search"
BUNDLE = RUNS / "demo-bundle"
IMAGE = RUNS / "demo-image"


def say(text: str) -> None:
    """Print a heading."""
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n== {text}", flush=True)


def run(*arguments: str, quiet: bool = False, fine: tuple[int, ...] = (0,)) -> str:
    """Run a command of the package and stop unless it ends with a code that is fine; what it printed on stdout."""
    command = ["-m", *arguments]
    print(f"$ python {shlex.join(command)}", flush=True)
    done = subprocess.run([sys.executable, *command], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in fine:
        sys.exit(done.returncode)
    if not quiet:
        print(done.stdout, end="", flush=True)
    return done.stdout


def budgets() -> tuple[float, float]:
    """Two budgets between the predicted latencies of the smallest and the largest subnet of this machine."""
    text = run("ofa_tvm.predict", "--subnet", "smallest", "--subnet", "largest", "--json", quiet=True)
    fastest, slowest = (subnet["predicted_ms"] for subnet in json.loads(text)["subnets"])
    between = (fastest * (slowest / fastest) ** share for share in (0.4, 0.7))
    low, high = (float(f"{value:.2g}") for value in between)
    print(f"smallest subnet about {fastest:.3f} ms, largest {slowest:.3f} ms: budgets {low:g} and {high:g} ms")
    return low, high


def classify(manifest: dict[str, Any]) -> None:
    """Say what the deployed library made of the test images."""
    accuracy, latency = manifest["accuracy"], manifest["latency"]
    print(
        f"the .so classified {accuracy['test_images']} test images: {accuracy['test_top1']:.2%} right "
        f"(torch: {accuracy['torch_test_top1']:.2%}), {latency['measured_ms']:.3f} ms an image on "
        f"{manifest['target']['threads']} thread"
    )


def picture() -> tuple[Path, str]:
    """A test image as a file that the bundle's program reads, and what it shows."""
    import numpy as np
    from PIL import Image

    from ofa_tvm.compiler.runner_headers import finds_header
    from ofa_tvm.data import load_dataset

    dataset = load_dataset("cifar10")
    number = int(np.argmax(dataset.test.labels == dataset.class_names.index("cat")))
    path = IMAGE.with_suffix(".png" if finds_header("g++") else ".ppm")
    Image.fromarray(dataset.test.images[number]).save(path)
    return path, dataset.class_names[dataset.test.labels[number]]


def run_bundle() -> None:
    """Classify an image as a user of the bundle does."""
    path, shown = picture()
    print(f"$ ./{BUNDLE}/run {path}     # a picture of a {shown}", flush=True)
    done = subprocess.run([BUNDLE / "run", path], check=False)
    if done.returncode != 0:
        sys.exit(done.returncode)


def main() -> None:
    """Run all steps."""
    start = time.monotonic()
    if (SEARCH / "result.json").exists():
        say(f"1. and 2. Tuning and search are done: {SEARCH} (remove it to go on tuning and search again)")
    else:
        say("1. Tune the kernels of the search space a little further, and measure some subnets")
        few = ["--minutes", "1", "--trials-per-kernel", "10", "--samples", "30"]
        run("ofa_tvm.tune", "--target", "x86", "--space", "mbv3-cifar", *few)
        say("2. Search: the most accurate subnet for each of two latency budgets, verified by measurement")
        limits = [argument for budget in budgets() for argument in ("--max-latency-ms", str(budget))]
        run("ofa_tvm.search", "--target", "x86", *limits, "--samples", "30", "--out", str(SEARCH))
    say("3. Deploy the first pick as a library, and classify the test images with it")
    text = run("ofa_tvm.deploy", "--from", str(SEARCH), "--pick", "1", "--out", str(BUNDLE), "--json", quiet=True)
    deployed = json.loads(text)
    classify(deployed["manifest"])
    say("4. The same subnet in other engines, one thread, outputs compared first")
    subnet = deployed["manifest"]["subnet"]
    run("ofa_tvm.bench", "--space", "mbv3-cifar", "--subnet", subnet, "--threads", "1", "--seconds", "3")
    say("5. Report")
    run("ofa_tvm.report", "--from", str(SEARCH), "--bundle", str(BUNDLE))
    say("6. The bundle by itself: a program and a library, no Python, no TVM")
    run_bundle()
    cost = deployed["cost"]
    print(
        f"\nThis deployment cost {cost['wall_s']:.0f} s, {cost['cpu_s']:.0f} CPU s, {cost['energy_kwh'] * 1e3:.2g} Wh "
        f"({cost['method']}). Bundle: {BUNDLE}. Demo: {time.monotonic() - start:.0f} s in all."
    )


if __name__ == "__main__":
    main()
