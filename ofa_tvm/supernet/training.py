"""Progressive shrinking with in-place distillation.

Phases open one dimension after the other (Cai et al., ICLR 2020, section 3.3): the largest network alone, then
kernel sizes, depths and expand ratios. Within a phase every step trains the largest network on the labels, and
the smallest and a random subnet on the largest one's answers (Yu et al., "BigNAS", ECCV 2020, sections 3.1-3.2).
"""

from __future__ import annotations

import ctypes
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ofa_tvm.data.dataset import Dataset
from ofa_tvm.spaces import SearchSpace, SubnetConfig
from ofa_tvm.supernet.augment import CropAndFlip, preprocess
from ofa_tvm.supernet.checkpoint import load_tensors, save_supernet, save_tensors
from ofa_tvm.supernet.elastic import channels_last
from ofa_tvm.supernet.evaluate import CPU, Evaluator
from ofa_tvm.supernet.facts import FILE_NAME, SupernetFacts
from ofa_tvm.supernet.model import Supernet
from ofa_tvm.supernet.plan import Elastic, Phase, Plan
from ofa_tvm.supernet.sorting import sort_channels
from ofa_tvm.support.console import Task, log
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import append_jsonl
from ofa_tvm.support.ledger import Ledger

STATE_NAME = "state.safetensors"
LOG_NAME = "training.jsonl"
LEDGER_NAME = "ledger.jsonl"


def sample_subnet(
    space: SearchSpace, elastic: tuple[Elastic, ...], rng: np.random.Generator, smallest: bool
) -> SubnetConfig:
    """A random (or the smallest) subnet with only the given dimensions elastic; resolution is always random."""
    row = space.sample(rng, 1)
    if smallest:
        row[:, 1:] = 0
    sizes = space.gene_sizes[None] - 1
    views = space.split_genes(row)
    fulls = space.split_genes(sizes)
    for name, view, full in zip(("depth", "kernel", "expand"), views[1:], fulls[1:], strict=True):
        if name not in elastic:
            view[:] = full
    return space.config(space.canonical(row)[0])


class Trainer:
    """One training run in a folder; starting it again, on any device, goes on after the last complete epoch."""

    def __init__(
        self, space: SearchSpace, dataset: Dataset, plan: Plan, folder: Path, device: torch.device = CPU
    ) -> None:
        if space.classes != len(dataset.class_names):
            classes = len(dataset.class_names)
            raise UserError(f"space {space.name} has {space.classes} classes, {dataset.name} {classes}")
        if len(dataset.train) < plan.batch:
            raise UserError(f"{dataset.name} has {len(dataset.train)} training images, a batch is {plan.batch}")
        self.space, self.dataset, self.plan, self.folder, self.device = space, dataset, plan, folder, device
        _keep_freed_memory()
        torch.manual_seed(plan.seed)
        self.supernet = channels_last(Supernet(space)).to(device)
        decayed = [p for n, p in self.supernet.named_parameters() if n.endswith("weight") and p.dim() > 1]
        others = [p for n, p in self.supernet.named_parameters() if not (n.endswith("weight") and p.dim() > 1)]
        self.optimizer = torch.optim.SGD(
            [{"params": decayed, "weight_decay": plan.weight_decay}, {"params": others, "weight_decay": 0.0}],
            lr=0.1,
            momentum=plan.momentum,
            nesterov=True,
            foreach=True,
        )
        self.epochs_done = 0
        self._trained = False
        self.ledger = Ledger(folder / LEDGER_NAME, uses_gpu=device.type == "cuda")
        self._augment = CropAndFlip(dataset.train.images, device)
        self._labels = torch.from_numpy(dataset.train.labels)
        few = dataset.validation.take(np.arange(min(2000, dataset.held_out)))
        self._evaluator = Evaluator(dataset, few, 1000, device)
        self._resume()

    # State --------------------------------------------------------------------------------------------------

    def _settings(self) -> dict[str, Any]:
        return {"plan": asdict(self.plan), "data": self.dataset.name, "space": self.space.name}

    def facts(self) -> SupernetFacts:
        """What the checkpoint says of itself now."""
        training = {**self._settings(), "epochs_done": self.epochs_done}
        return SupernetFacts(
            self.space.name, self.dataset.name, self.dataset.class_names, self.dataset.preprocess, training
        )

    def _resume(self) -> None:
        path = self.folder / STATE_NAME
        if not path.exists():
            return
        tensors, facts = load_tensors(path)
        known = {name: facts.training.get(name) for name in self._settings()}
        if known != _as_json(self._settings()):
            changed = [name for name, value in _as_json(self._settings()).items() if known[name] != value]
            raise UserError(
                f"{self.folder} holds a training with another {' and '.join(changed)}",
                "give another --out, or the settings it was started with",
            )
        model = {name.removeprefix("model."): tensor for name, tensor in tensors.items() if name.startswith("model.")}
        try:
            self.supernet.load_state_dict(model)
        except RuntimeError as error:
            raise UserError(f"{path} does not fit space {self.space.name}", "give another --out") from error
        for name, parameter in self.supernet.named_parameters():
            if f"momentum.{name}" in tensors:
                momentum = tensors[f"momentum.{name}"].to(self.device)
                if momentum.dim() == 4:
                    momentum = momentum.contiguous(memory_format=torch.channels_last)
                self.optimizer.state[parameter]["momentum_buffer"] = momentum
        self.epochs_done = facts.training["epochs_done"]
        log(f"resuming {self.folder} after epoch {self.epochs_done}")

    def _save(self) -> None:
        tensors = {f"model.{name}": tensor for name, tensor in self.supernet.state_dict().items()}
        for name, parameter in self.supernet.named_parameters():
            momentum = self.optimizer.state[parameter].get("momentum_buffer")
            if momentum is not None:
                tensors[f"momentum.{name}"] = momentum
        save_tensors(self.folder / STATE_NAME, tensors, self.facts())

    # Work ---------------------------------------------------------------------------------------------------

    def run(self) -> Path:
        """Train what is left of the plan; returns the checkpoint."""
        first = 0
        for phase in self.plan.phases:
            for epoch in range(max(0, self.epochs_done - first), phase.epochs):
                if epoch == 0 and phase.elastic[-1:] == ("expand",):
                    self._sort()
                with self.ledger.phase(f"train {phase.name} epoch {epoch + 1}"):
                    self._epoch(phase, epoch)
                self._save()
                self._trained = True
            first += phase.epochs
        path = self.folder / FILE_NAME
        if self._trained or not path.exists():
            save_supernet(path, self.supernet, self.facts())
        return path

    def _sort(self) -> None:
        momenta = {id(parameter): state.get("momentum_buffer") for parameter, state in self.optimizer.state.items()}
        for tensor, dimension, order in sort_channels(self.supernet):
            momentum = momenta.get(id(tensor))
            if momentum is not None:
                momentum.copy_(momentum.index_select(dimension, order))

    def _epoch(self, phase: Phase, epoch: int) -> None:
        number = self.epochs_done
        rng = np.random.default_rng((self.plan.seed, number))
        generator = torch.Generator().manual_seed(self.plan.seed * 1_000_003 + number)
        order = torch.randperm(len(self._labels), generator=generator)
        steps = len(order) // self.plan.batch
        losses: dict[str, float] = {"largest": 0.0, "subnets": 0.0}
        self.supernet.train()
        title = f"{phase.name} {epoch + 1}/{phase.epochs}"
        start = time.monotonic()
        with Task(title, steps) as task:
            for step in range(steps):
                rows = order[step * self.plan.batch : (step + 1) * self.plan.batch]
                images = self._augment(rows, generator)
                self._set_rate(phase, epoch + step / steps)
                labels = self._labels[rows].to(self.device, non_blocking=True)
                for name, loss in list(self._step(phase, images, labels, rng)):
                    losses[name] += loss.item() / steps
                task.advance(note=f"loss {losses['largest'] * steps / (step + 1):.3f}")
        if not math.isfinite(losses["largest"]):
            raise UserError(f"training diverged in {title}", f"remove {self.folder} and try a lower learning rate")
        speed = steps * self.plan.batch / (time.monotonic() - start)
        self.epochs_done += 1
        self._report(phase, epoch, losses, speed, rng)

    def _set_rate(self, phase: Phase, epoch: float) -> None:
        fraction = epoch / phase.epochs
        rate = phase.rate_end + (phase.rate_start - phase.rate_end) * (1 + math.cos(math.pi * fraction)) / 2
        if epoch < phase.warmup_epochs:
            rate *= (epoch + 0.02) / phase.warmup_epochs
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def _step(
        self, phase: Phase, images: Tensor, labels: Tensor, rng: np.random.Generator
    ) -> Iterator[tuple[str, Tensor]]:
        self.optimizer.zero_grad(set_to_none=True)
        largest = sample_subnet(self.space, (), rng, smallest=False)
        logits = self._logits(images, largest)
        loss = F.cross_entropy(logits, labels, label_smoothing=self.plan.label_smoothing)
        loss.backward()  # type: ignore[no-untyped-call]
        yield "largest", loss.detach()
        if phase.elastic:
            answers = logits.detach().softmax(1)
            count = 1 + self.plan.random_subnets
            for index in range(count):
                config = sample_subnet(self.space, phase.elastic, rng, smallest=index == 0)
                loss = F.cross_entropy(self._logits(images, config), answers)
                loss.backward()  # type: ignore[no-untyped-call]
                yield "subnets", loss.detach() / count
        nn.utils.clip_grad_norm_(self.supernet.parameters(), self.plan.clip_norm, foreach=True)
        self.optimizer.step()

    def _logits(self, images: Tensor, config: SubnetConfig) -> Tensor:
        images = preprocess(images, self.dataset.preprocess, config.resolution)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.plan.precision == "bfloat16"):
            logits: Tensor = self.supernet(images, config)
        return logits.float()

    def _report(
        self, phase: Phase, epoch: int, losses: dict[str, float], images_per_s: float, rng: np.random.Generator
    ) -> None:
        self.supernet.eval()
        configs = {"largest": self.space.largest}
        if phase.elastic:
            configs["smallest"] = self.space.smallest
            configs["random"] = self.space.config(self.space.sample(rng, 1)[0])
        top1 = {name: round(self._evaluator.top1(self.supernet, config), 4) for name, config in configs.items()}
        record = {
            "epoch": self.epochs_done,
            "phase": phase.name,
            "phase_epoch": epoch + 1,
            "loss": {name: round(value, 4) for name, value in losses.items()},
            "images_per_s": round(images_per_s, 1),
            "validation_top1": top1,
            "random_subnet": configs["random"].key if "random" in configs else None,
        }
        append_jsonl(self.folder / LOG_NAME, [record])
        speed = f"{images_per_s:.0f} images/s"
        log(f"epoch {self.epochs_done} ({phase.name}): loss {losses['largest']:.3f}, {speed}, validation top-1 {top1}")


def _as_json(value: Any) -> Any:
    """Tuples become lists, as after a trip through a file."""
    if isinstance(value, dict):
        return {name: _as_json(item) for name, item in value.items()}
    return [_as_json(item) for item in value] if isinstance(value, list | tuple) else value


def _keep_freed_memory() -> None:
    """Let the C library keep freed memory: returning it costs 15 % of a step in page faults."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            trim_threshold, mmap_max = -1, -4
            libc.mallopt(mmap_max, 0)
            libc.mallopt(trim_threshold, 2**31 - 1)
