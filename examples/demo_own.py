"""Images of your own: ImageNet weights fine-tuned once, three budgets, two targets, and what else you could take.

``make demo-own``, or ``python examples/demo_own.py --data imagefolder:PATH``. Without a folder of yours it makes one:
five classes of CIFAR-10 in many formats, 1,000 pictures each to train and to test. Beside the supernet,
EfficientNet-Lite0 alone is fine-tuned for as long, and runs in ONNX Runtime and OpenVINO, float32 and int8. Takes hours
on two cores; what is done is not done again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from demo import run, say

from ofa_tvm.spaces import SearchSpace
from ofa_tvm.supernet.facts import checkpoint_path, read_facts
from ofa_tvm.support.command import share, table

RUNS = Path("runs/own")
FIXED, SUPERNET = RUNS / "fixed", RUNS / "supernet"
START = "efficientnet-lite0"
PLAN = ("--set", "body_rate=1", "--set", "mixed=0.25")
"""All layers at the full rate, few mixed images: on CIFAR-10 better by 0.5 (largest) to 2.3 points (smallest)."""
SHARES = (0.3, 0.55, 0.8)
"""Where the budgets lie between the smallest and the largest subnet, in the logarithm of latency."""
Record = dict[str, Any]


def pictures() -> str:
    """A folder of five classes, made once; how ``--data`` names it."""
    folder = RUNS / "pictures"
    if not (folder / "done").exists():
        say("0. No folder of yours: five classes of CIFAR-10 as picture files")
        subprocess.run(
            [sys.executable, Path(__file__).with_name("small_data.py"), folder, "--per-class", "1000"], check=True
        )
        (folder / "done").touch()
    return f"imagefolder:{folder}"


def asked(*command: str) -> Record:
    """What a command prints with ``--json``; a part of what was asked for is fine (exit code 3)."""
    found: Record = json.loads(run(*command, "--json", quiet=True, fine=(0, 3)))
    return found


def once(out: Path, *command: str) -> Record:
    """What a command printed, kept in a file; seconds that it took are added."""
    kept = out / "printed.json"
    if not kept.exists():
        start = time.monotonic()
        printed = asked(*command)
        out.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps({**printed, "seconds": time.monotonic() - start}))
    found: Record = json.loads(kept.read_text())
    return found


def train_both(data: str, sizes: list[int], epochs: str) -> tuple[Record, Record]:
    """The supernet, and its largest network alone for as many CPU seconds."""
    shared = ["ofa_tvm.train", "--init", START, "--data", data, *PLAN]
    resolutions = [word for size in sizes for word in ("--resolution", str(size))]
    supernet = once(
        SUPERNET, *shared, *resolutions, "--epochs", epochs, "--accuracy-samples", "100", "--out", str(SUPERNET)
    )
    largest = largest_of(read_facts(checkpoint_path(SUPERNET)).search_space, max(sizes))
    alone = [*shared, "--resolution", str(max(sizes)), "--set", f"only={largest}", "--accuracy-samples", "0"]
    say("2. The fixed network, for as many CPU seconds")
    if not (FIXED / "printed.json").exists():
        step = asked(*alone, "--steps", "1000", "--out", str(FIXED), "--dry-run")["cost"]["cpu_s"] / 1000
        trained_s = sum(one["cpu_s"] for one in costs(SUPERNET) if one["phase"].startswith("train"))
        alone += ["--steps", str(round(trained_s / step)), "--out", str(FIXED)]
    return supernet, once(FIXED, *alone)


def costs(folder: Path) -> list[Record]:
    """The ledger of a training."""
    return [json.loads(line) for line in (folder / "ledger.jsonl").read_text().splitlines()]


def largest_of(space: SearchSpace, size: int) -> str:
    """Key of the largest subnet at a resolution."""
    return space.with_resolutions([size]).largest.key


def budgets(on: list[str], sizes: list[int]) -> list[str]:
    """Three budgets between what the smallest and the largest subnet take."""
    space = read_facts(checkpoint_path(SUPERNET)).search_space
    keys = [space.with_resolutions([min(sizes)]).smallest.key, largest_of(space, max(sizes))]
    named = [word for key in keys for word in ("--subnet", key)]
    found = asked("ofa_tvm.predict", *on, "--supernet", str(SUPERNET), *named)
    low, high = (one["predicted_ms"] for one in found["subnets"])
    return [f"{low * (high / low) ** one:.3g}" for one in SHARES]


def search_folder(target: str, dtype: str) -> Path:
    """Where the search for a target is."""
    return RUNS / f"search-{target}-{dtype}"


def for_target(target: str, dtype: str, sizes: list[int], data: str) -> Record:
    """Tune, then search for three budgets; with the seconds of both."""
    classes = str(read_facts(checkpoint_path(SUPERNET)).classes)
    resolutions = [word for size in sizes for word in ("--resolution", str(size))]
    on = ["--target", target, "--dtype", dtype]
    tuned = once(
        RUNS / f"tuned-{target}-{dtype}",
        *("ofa_tvm.tune", *on, "--space", "efficientnet-lite", "--classes", classes),
        *(*resolutions, "--trials-per-kernel", "8", "--samples", "60"),
    )
    out = search_folder(target, dtype)
    limits = [word for one in budgets(on, sizes) for word in ("--max-latency-ms", one)]
    found = once(out, "ofa_tvm.search", *on, *limits, "--supernet", str(SUPERNET), "--data", data, "--out", str(out))
    return {**found, "seconds": tuned["seconds"] + found["seconds"]}


def deployed(name: str, *options: str) -> Path:
    """The folder of a bundle, made once."""
    folder = RUNS / name
    if not (folder / "manifest.json").exists():
        run("ofa_tvm.deploy", *options, "--out", str(folder), quiet=True)
    return folder


def compared(bundles: list[Path], data: str) -> Record:
    """All engines beside each other."""
    script = Path(__file__).parents[1] / "benchmarks" / "onnx_engines.py"
    command = [sys.executable, str(script), *map(str, bundles), "--data", data, "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    found: Record = json.loads(done.stdout)
    return found


def main() -> None:
    """Run all steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="imagefolder:PATH (default: five classes of CIFAR-10)")
    parser.add_argument("--resolution", type=int, nargs="+", default=[96, 128])
    parser.add_argument("--epochs", default="10")
    parser.add_argument("--dtype", choices=["int8", "float32"], default="int8", help="of our subnets (int8: AVX2)")
    parser.add_argument("--targets", nargs=2, default=["x86", "x86-2t"])
    options = parser.parse_args()
    RUNS.mkdir(parents=True, exist_ok=True)
    data, sizes = options.data or pictures(), options.resolution
    say("1. Fine-tune: all subnets of EfficientNet-Lite0, from ImageNet weights")
    supernet, fixed = train_both(data, sizes, options.epochs)
    first, second = options.targets
    say(f"3. Three budgets on {first}")
    here = for_target(first, options.dtype, sizes, data)
    say(f"4. The next device: {second}")
    there = for_target(second, options.dtype, sizes, data)
    say("5. Bundles, beside what else you could take")
    largest = largest_of(read_facts(checkpoint_path(FIXED)).search_space, max(sizes))
    fixed_net = ["--supernet", str(FIXED), "--subnet", largest, "--data", data, "--target", first]
    alone = deployed("bundle-fixed", *fixed_net)
    in_int8 = [deployed("bundle-fixed-int8", *fixed_net, "--dtype", "int8")] if options.dtype == "int8" else []
    picks = [
        deployed(f"bundle-{number}", "--from", str(search_folder(first, options.dtype)), "--pick", number)
        for number in (str(pick["number"]) for pick in here["picks"])
    ]
    result = compared([alone, *in_int8, *picks], data)
    usual = next((one for one in result["rows"] if one["name"] == "ONNX Runtime, float32"), result["rows"][0])
    rows = [
        [
            one["name"],
            f"{one['median_ms']:.3f}",
            f"{usual['median_ms'] / one['median_ms']:.2f}x",
            share(one["test_top1"], one["test_error"]),
        ]
        for one in result["rows"]
    ]
    print(table([f"on {first}", "ms", "as fast", f"of {result['test_images']} test images"], rows))
    rows = [
        [f"{pick['budget_ms']:g}", f"{pick['measured_ms']:.3f}", share(pick["test_top1"], pick.get("test_error"))]
        for pick in there["picks"]
        if pick["measured_ms"] is not None
    ]
    print("\n" + table([f"budget on {second}, ms", "measured ms", "test images right"], rows))
    hours = [one["cost"]["wall_s"] / 3600 for one in (supernet, fixed)]
    print(
        f"\ntraining: {hours[0]:.1f} hours for all subnets, {hours[1]:.1f} for the fixed one; "
        f"the next device: {there['seconds'] / 60:.0f} minutes of tuning and searching, no training"
    )


if __name__ == "__main__":
    main()
