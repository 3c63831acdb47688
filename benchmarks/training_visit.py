"""A visit to a machine with a GPU: is the graphed training step right, how fast is it, and trainings.

Needs torch with Triton, this folder, and images in two halves of an image pack (``ofa_tvm.data.image_pack``); no
network. Results are written one by one, so that a visit that is cut keeps what it has.

    python benchmarks/training_visit.py check --out OUT
    python benchmarks/training_visit.py train --out OUT --data pack:FOLDER --job mbv3-cifar:60
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ofa_tvm.data.cifar10 import CLASS_NAMES, PREPROCESS
from ofa_tvm.data.dataset import Dataset, Split
from ofa_tvm.spaces import get_space
from ofa_tvm.supernet.elastic import channels_last
from ofa_tvm.supernet.graphed_step import GraphedStep
from ofa_tvm.supernet.model import Supernet
from ofa_tvm.supernet.plan import make_plan
from ofa_tvm.supernet.sampling import step_subnets
from ofa_tvm.supernet.step import Step
from ofa_tvm.supernet.training import Trainer


def say(out: Path, **record: Any) -> None:
    """Append a record, and print it."""
    line = json.dumps(record)
    print(line, flush=True)
    with (out / "visit.jsonl").open("a") as file:
        file.write(line + "\n")


def wait() -> None:
    """For the GPU."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def batch_of(count: int, device: torch.device, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Images and targets."""
    images = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator).to(device)
    return images, torch.eye(10, device=device)[torch.randint(0, 10, (count,), generator=generator).to(device)]


def parity(out: Path, name: str, device: torch.device, count: int) -> None:
    """Gradients of a step's networks, against autograd's through torch's operators in float32."""
    space = get_space(name)
    generator = torch.Generator().manual_seed(1)
    for precision in ("float32", "bfloat16"):
        torch.manual_seed(0)
        plan = make_plan("single-stage", 400, batch=count, precision=precision)
        known = channels_last(Supernet(space)).to(device)
        ours = deepcopy(known)
        reference = Step(known, replace(plan, precision="float32"), PREPROCESS)
        graphed = GraphedStep(ours, plan, PREPROCESS)
        subnets = step_subnets(space, plan, 399)
        for turn in ("first", "recorded", "replayed"):
            images, targets = batch_of(count, device, generator)
            start = time.perf_counter()
            with torch.backends.cudnn.flags(enabled=False):
                wanted = reference(images, targets, subnets)
            wait()
            middle = time.perf_counter()
            found = graphed(images, targets, subnets)
            wait()
            end = time.perf_counter()
            wrong = right = torch.zeros((), device=device)
            worst = ("", 0.0)
            for (label, one), other in zip(known.named_parameters(), ours.parameters(), strict=True):
                wanted_one = torch.zeros_like(one) if one.grad is None else one.grad
                apart = wanted_one - (other.grad if other.grad is not None else 0)
                wrong, right = wrong + apart.square().sum(), right + wanted_one.square().sum()
                worst = max(
                    worst, (label, (apart.norm() / (wanted_one.norm() + 1e-4)).item()), key=lambda pair: pair[1]
                )
            say(
                out,
                what="parity",
                space=name,
                precision=precision,
                turn=turn,
                error=(wrong / right).sqrt().item(),
                worst=worst,
                losses=[wanted.largest.item(), found.largest.item(), wanted.subnets.item(), found.subnets.item()],
                seconds=[round(middle - start, 3), round(end - middle, 3)],
            )


def speed(out: Path, name: str, device: torch.device, batches: Sequence[int]) -> None:
    """Replayed passes of single networks, and of a whole step."""
    space = get_space(name)
    generator = torch.Generator().manual_seed(1)
    for count in batches:
        plan = make_plan("single-stage", 400, batch=count, precision="bfloat16")
        supernet = channels_last(Supernet(space)).to(device)
        step = GraphedStep(supernet, plan, PREPROCESS)
        images, targets = batch_of(count, device, generator)
        chosen = dict(zip(("largest", "smallest", "random"), step_subnets(space, plan, 399), strict=True))
        for label, config in chosen.items():
            for _ in range(3):
                step(images, targets, [config])
            wait()
            start = time.perf_counter()
            for _ in range(20):
                step(images, targets, [config])
            wait()
            rate = 20 * count / (time.perf_counter() - start)
            say(out, what="speed", space=name, batch=count, network=label, key=config.key, images_per_s=round(rate))


def whole(out: Path, name: str, device: torch.device, count: int, steps: int) -> None:
    """Steps as a training takes them: augmentation, three networks, the update."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (8192, 32, 32, 3), dtype=np.uint8)
    split = Split(images, rng.integers(0, 10, len(images)))
    dataset = Dataset("random", CLASS_NAMES, PREPROCESS, split, split.take(np.arange(100)), 100)
    plan = make_plan("single-stage", steps, batch=count, precision="bfloat16", window=64)
    plan = replace(plan, phases=(replace(plan.phases[0], closed=0.0, opened=0.0),))
    trainer = Trainer(get_space(name), dataset, plan, out / "never", device)
    trainer.supernet.train()
    marks = []
    for _ in range(steps):
        if trainer.steps_done % 64 == 0:
            wait()
            marks.append(time.perf_counter())
        trainer.step()
    windows = [round(64 * count / float(gap)) for gap in np.diff(marks)]
    say(out, what="whole step", space=name, batch=count, images_per_s=windows)


def kernels(out: Path, name: str, device: torch.device, count: int) -> None:
    """Which kernels a pass of the largest network spends its time in."""
    space = get_space(name)
    generator = torch.Generator().manual_seed(1)
    plan = make_plan("single-stage", 400, batch=count, precision="bfloat16")
    step = GraphedStep(channels_last(Supernet(space)).to(device), plan, PREPROCESS)
    images, targets = batch_of(count, device, generator)
    for _ in range(3):
        step(images, targets, [space.largest])
    wait()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        step(images, targets, [space.largest])
        wait()
    rows = sorted(profile.key_averages(), key=lambda row: -row.device_time_total)
    total = sum(row.device_time_total for row in rows)
    table = [(row.key[:70], row.count, round(row.device_time_total)) for row in rows[:25]]
    say(
        out,
        what="kernels",
        space=name,
        batch=count,
        us=round(total),
        launches=sum(row.count for row in rows),
        top=table,
    )


def check(arguments: argparse.Namespace) -> None:
    """Everything but trainings."""
    out, device = arguments.out, torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    say(out, what="machine", gpu=name, torch=torch.__version__, cuda=torch.version.cuda)
    parts: list[Callable[[], None]] = [
        lambda: parity(out, "mbv3-cifar", device, arguments.count),
        lambda: speed(out, "mbv3-cifar", device, arguments.batches),
        lambda: whole(out, "mbv3-cifar", device, 512, 256),
        lambda: kernels(out, "mbv3-cifar", device, 512),
        lambda: parity(out, "mbv3-cifar-large", device, arguments.count),
        lambda: speed(out, "mbv3-cifar-large", device, arguments.batches[-1:]),
        lambda: whole(out, "mbv3-cifar-large", device, 512, 192),
        lambda: kernels(out, "mbv3-cifar-large", device, 512),
    ]
    for part in parts[: arguments.parts]:
        start = time.perf_counter()
        try:
            part()
        except Exception as error:  # a visit goes on with what else it came for
            say(out, what="failed", error=repr(error)[:2000])
            traceback.print_exc(limit=12)
        print(f"  {time.perf_counter() - start:.1f} s", flush=True)


def train(arguments: argparse.Namespace) -> None:
    """Trainings one after the other, each as its own process."""
    for job in arguments.job:
        space, epochs, *options = job.split(":")
        folder = arguments.out / "-".join([space, epochs, *options]).replace("=", "")
        command = [
            sys.executable,
            "-m",
            "ofa_tvm.train",
            "--space",
            space,
            "--data",
            arguments.data,
            "--epochs",
            epochs,
        ]
        command += ["--accuracy-samples", "0", "--out", str(folder)]
        for option in options:
            name, _, value = option.partition("=")
            command += [f"--{name}", value] if name in ("batch", "seed", "recipe") else ["--set", option]
        start = time.perf_counter()
        code = subprocess.run(command, check=False).returncode
        say(arguments.out, what="training", job=job, code=code, seconds=round(time.perf_counter() - start, 1))
        if code == 0:  # an unfinished one goes on from there
            (folder / "state.safetensors").unlink()


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=["check", "train"])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=64, help="images of the parity check")
    parser.add_argument("--batches", type=int, nargs="+", default=[128, 256, 512, 1024])
    parser.add_argument("--parts", type=int, default=8)
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--job", action="append", default=[], help="SPACE:EPOCHS[:NAME=VALUE...]")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    verbs: dict[str, Callable[[argparse.Namespace], None]] = {"check": check, "train": train}
    verbs[arguments.verb](arguments)


if __name__ == "__main__":
    main()
