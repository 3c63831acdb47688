"""A training run in a folder: steps, their order, what is kept of them, and resuming after an interruption."""

from __future__ import annotations

import json
import math
import shlex
import time
from copy import deepcopy
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ofa_tvm.data.dataset import Dataset
from ofa_tvm.spaces import SearchSpace
from ofa_tvm.supernet.augment import CropAndFlip, cut_mix
from ofa_tvm.supernet.begun_with import differences, options, told
from ofa_tvm.supernet.checkpoint import load_tensors, not_finite, save_supernet, save_tensors
from ofa_tvm.supernet.elastic import channels_last
from ofa_tvm.supernet.evaluate import CPU, Evaluator
from ofa_tvm.supernet.facts import FILE_NAME, SupernetFacts
from ofa_tvm.supernet.graphed_step import GraphedStep, has_graphed_step
from ofa_tvm.supernet.host_memory import keep_freed_memory
from ofa_tvm.supernet.model import Supernet
from ofa_tvm.supernet.plan import Phase, Plan
from ofa_tvm.supernet.ranks import Ranks
from ofa_tvm.supernet.sampling import require_only, step_subnets
from ofa_tvm.supernet.sorting import sort_channels
from ofa_tvm.supernet.start import Start
from ofa_tvm.supernet.step import Losses, Step
from ofa_tvm.supernet.teacher import Teacher
from ofa_tvm.supernet.update import Update
from ofa_tvm.support.console import Task, log
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import Record, append_jsonl, read_jsonl, write_atomic
from ofa_tvm.support.ledger import Ledger
from ofa_tvm.support.signals import uninterrupted

STATE_NAME = "state.safetensors"
LOG_NAME = "training.jsonl"
LEDGER_NAME = "ledger.jsonl"
SAVE_S = 60.0
"""Seconds of work that an interruption costs at most."""
REPORTS = 20
"""Times that a training evaluates subnets and reports its progress."""
MAX_SKIPPED = 10
"""Steps in a row without a finite gradient after which a training ends."""
LOOK = 10
"""Steps between looks at a result on the device: waiting for it stalls the device."""
EVALUATED, CALIBRATED = 2000, 1000
"""Held-out images that a report counts on, and training images that set its batch norms."""


class Trainer:
    """One training run in a folder; starting it again, on any device, resumes from the last saved state.

    Args:
        space: of the supernet.
        dataset: its images.
        plan: what is trained.
        folder: where everything is kept.
        device: where it runs.
        teacher: answers beside the labels; None for none.
        ranks: the processes that train together.
        folds: parts of the cross-validation that serves this supernet, or whose part it is; 1 without one.
        start: weights to start from; None for random ones.

    Raises:
        UserError: images and space do not fit, or the folder holds another training.
    """

    def __init__(
        self,
        space: SearchSpace,
        dataset: Dataset,
        plan: Plan,
        folder: Path,
        device: torch.device = CPU,
        teacher: Teacher | None = None,
        ranks: Ranks | None = None,
        folds: int = 1,
        start: Start | None = None,
    ) -> None:
        if space.classes != len(dataset.class_names):
            classes = len(dataset.class_names)
            raise UserError(f"space {space.name} has {space.classes} classes, {dataset.name} {classes}")
        require_only(space, plan)
        if (images := len(dataset.train)) < plan.batch:
            part = f" in a part of {folds}" if folds > 1 and dataset.held_out else ""
            hint = f"give --batch {images}" + (" or --folds 1" if part else "") if images > 1 else "add images"
            raise UserError(f"{dataset.name} has {images} training images{part}, a batch is {plan.batch}", hint)
        self.space, self.dataset, self.plan, self.folder, self.device = space, dataset, plan, folder, device
        self.ranks, self._teacher, self._folds, self._start = ranks or Ranks(), teacher, folds, start
        keep_freed_memory()
        torch.manual_seed(plan.seed)
        self.supernet = channels_last(Supernet(space)).to(device)
        if start is not None:
            start.copy_to(self.supernet, dataset.class_names)
        self.result = self.supernet if plan.ema == 0 else deepcopy(self.supernet).requires_grad_(False)
        """The supernet that the training results in: the running mean of the weights, or the weights themselves."""
        self._update = Update(self.supernet, plan, self.result)
        self.steps_done = 0
        self._trained = False
        self.has_written = False
        """Whether ``run`` wrote the checkpoint; it leaves a whole one of a finished training alone."""
        self.ledger = Ledger(folder / LEDGER_NAME, uses_gpu=device.type == "cuda")
        self.ledger.costs()  # a damaged one is told now, not after hours
        self._augment = CropAndFlip(dataset.train.images, device)
        self._labels = torch.from_numpy(dataset.train.labels)
        step_on = GraphedStep if has_graphed_step(space, device) else Step
        self._step = step_on(self.supernet, plan, dataset.preprocess, teacher)
        self._order = lru_cache(maxsize=1)(self._permutation)
        few = dataset.validation.take(np.arange(min(EVALUATED, dataset.held_out)))
        self._evaluator = Evaluator(dataset, few, CALIBRATED, device)
        self._resume()

    # State --------------------------------------------------------------------------------------------------

    def _settings(self) -> Record:
        images = {"data": self.dataset.digest, "images": len(self.dataset.all_training)}
        settings: Record = {"plan": asdict(self.plan), **images, "space": self.space.name}
        if self._folds > 1:
            settings["part_of" if self.dataset.held_out else "folds"] = self._folds
        if self._start is not None:
            settings["init"] = self._start.name
        return settings if self._teacher is None else {**settings, "teacher": self._teacher.name}

    def facts(self) -> SupernetFacts:
        """What the checkpoint says about itself now."""
        training = {**self._settings(), "steps_done": self.steps_done}
        return SupernetFacts(
            self.space.name,
            self.dataset.name,
            self.dataset.class_names,
            self.dataset.preprocess,
            training,
            self.space.own,
        )

    def _resume(self) -> None:
        path = self.folder / STATE_NAME
        if not path.exists():
            if (self.folder / FILE_NAME).exists():
                raise UserError(f"{self.folder} holds a supernet without a training's state", "give another --out")
            return
        tensors, facts = self._load_state(path)
        if changed := differences(facts.training, _as_json(self._settings())):
            raise UserError(
                f"{self.folder} holds a training with another {told(changed)}",
                f"give another --out, or what it was begun with: {options(changed) or 'the same settings'}",
            )
        try:
            self.supernet.load_state_dict(_named(tensors, "model."))
            if self.result is not self.supernet:
                self.result.load_state_dict(_named(tensors, "mean."))
        except RuntimeError as error:
            raise UserError(f"{path} does not fit space {self.space.name}", "give another --out") from error
        momenta = _named(tensors, "momentum.")
        for name, parameter in self.supernet.named_parameters():
            if name in momenta:
                self._update.momentum(parameter).copy_(momenta[name])
        self.steps_done = facts.training["steps_done"]
        log(f"resuming {self.folder} after step {self.steps_done} of {self.plan.steps}")

    def _load_state(self, path: Path) -> tuple[dict[str, Tensor], SupernetFacts]:
        try:
            return load_tensors(path)
        except UserError as error:
            if not (self.folder / FILE_NAME).exists():
                raise
            moves = " && ".join(f"mv {name} {name}.damaged" for name in _quoted(path, self.folder / FILE_NAME))
            hint = f"restore it from a copy, or move it away with its supernet, to train both again:\n{moves}"
            raise UserError(error.what, hint) from error

    def _save(self) -> None:
        """Save the state, unless the last step was skipped: weights of a training that diverges replace no good ones.

        Raises:
            UserError: it has diverged.
        """
        if self._update.skipped():
            return
        tensors = {f"model.{name}": tensor for name, tensor in self.supernet.state_dict().items()}
        if self.result is not self.supernet:
            tensors |= {f"mean.{name}": tensor for name, tensor in self.result.state_dict().items()}
        for name, parameter in self.supernet.named_parameters():
            tensors[f"momentum.{name}"] = self._update.momentum(parameter)
        if not_finite(tensors):
            raise self._diverged()
        save_tensors(self.folder / STATE_NAME, tensors, self.facts())

    def _diverged(self) -> UserError:
        lower = min(1.0, self.plan.rate_scale) / 2
        return UserError(
            f"training diverged at step {self.steps_done}", f"give another --out, and --set rate_scale={lower:g}"
        )

    # Work ---------------------------------------------------------------------------------------------------

    def run(self) -> Path:
        """Train what is left of the plan; returns the checkpoint."""
        if self.ranks.is_first:
            self._drop_reports_after(self.steps_done)
        with Task("training", self.plan.steps, self.steps_done) as task:
            while self.steps_done < self.plan.steps:
                end = self._next_report()
                with self.ledger.phase(f"train to step {end}"):
                    self._train(end, task)
                self._trained = True
        path = self.folder / FILE_NAME
        if self.ranks.is_first and (self._trained or not _is_whole(path)):
            save_supernet(path, self.result, self.facts())
            self.has_written = True
        self.ranks.wait()
        return path

    def _drop_reports_after(self, step: int) -> None:
        """Drop reports of steps that a kill has undone: the saved state counts, and they are trained again."""
        path = self.folder / LOG_NAME
        reports = read_jsonl(path, "training log")
        kept = [report for report in reports if not (isinstance(report.get("step"), int) and report["step"] > step)]
        if len(kept) < len(reports):
            write_atomic(path, "".join(json.dumps(report) + "\n" for report in kept))

    def _next_report(self) -> int:
        every = math.ceil(self.plan.steps / REPORTS)
        return min(self.plan.steps, (self.steps_done // every + 1) * every)

    def _train(self, end: int, task: Task) -> None:
        """Train up to a step, save the state now and then, and report.

        Raises:
            UserError: the training has diverged; it may not end with a step that was skipped.
        """
        self.supernet.train()
        losses: list[Losses] = []
        note = ""
        first, start = self.steps_done, time.monotonic()
        saved = start
        while self.steps_done < end:
            losses.append(self._whole_step())
            if self.steps_done % LOOK == 0 or not note:
                note = f"loss {losses[-1].largest.item():.3f}"
            task.advance(note=note)
            if time.monotonic() - saved >= SAVE_S and self.steps_done < end and self.ranks.is_first:
                self._save()
                saved = time.monotonic()
        speed = (end - first) * self.plan.batch / (time.monotonic() - start)
        skipped = self._update.skipped()
        if skipped and self.steps_done == self.plan.steps:
            raise self._diverged()
        if self.ranks.is_first and not skipped:
            self._report(losses, speed)
            self._save()
        self.ranks.wait()

    def _whole_step(self) -> Losses:
        """A step that an interrupt waits for; what was done until then is saved.

        Several processes wait for each other in a step, so theirs are interrupted at once.
        """
        if self.ranks.count > 1:
            return self.step()
        before, losses = self.steps_done, None
        try:
            with uninterrupted():
                losses = self.step()
        except BaseException:
            if losses is not None and self.steps_done > before:  # a signal, after the step
                with uninterrupted():
                    self._save()
            raise
        return losses

    def step(self) -> Losses:
        """The next step of the plan.

        Raises:
            UserError: gradients have not been finite for a while.
        """
        number = self.steps_done
        phase, of_phase = self.plan.at(number)
        if phase.sorts and of_phase == 0:
            self._sort()
        images, targets = self._batch(number)
        losses = self._step(images, targets, step_subnets(self.space, self.plan, number))
        self.ranks.mean_gradients(self.supernet.parameters())
        self._update(number, self.plan.rate_scale * rate(phase, of_phase))
        if number % LOOK == 0 and self._update.skipped() >= MAX_SKIPPED:
            raise self._diverged()
        self.steps_done += 1
        return losses

    def _batch(self, number: int) -> tuple[Tensor, Tensor]:
        """Images and targets of a step, this process's share."""
        batch, classes = self.plan.batch, self.space.classes
        epoch, place = divmod(number, len(self._labels) // batch)
        rows = self._order(epoch)[place * batch : (place + 1) * batch]
        seed = np.random.SeedSequence((self.plan.seed, number)).generate_state(1, np.uint64)[0]
        generator = torch.Generator().manual_seed(int(seed >> 1))
        images = self._augment(self.ranks.share(rows), generator)
        targets = nn.functional.one_hot(self._labels[self.ranks.share(rows)], classes).float().to(self.device)
        if torch.rand((), generator=generator) < self.plan.mixed:
            images, targets = cut_mix(images, targets, generator)
        return images, targets

    def _permutation(self, epoch: int) -> Tensor:
        generator = torch.Generator().manual_seed(self.plan.seed * 1_000_003 + epoch)
        return torch.randperm(len(self._labels), generator=generator)

    def _sort(self) -> None:
        mean = dict(self.result.named_tensors()) if self.result is not self.supernet else {}
        names = {id(tensor): name for name, tensor in self.supernet.named_tensors()}
        momenta = {id(parameter): self._update.momentum(parameter) for parameter in self.supernet.parameters()}
        for tensor, dimension, order in sort_channels(self.supernet):
            for tensor_state in (momenta.get(id(tensor)), mean.get(names[id(tensor)])):
                if tensor_state is not None:
                    tensor_state.copy_(tensor_state.index_select(dimension, order))

    def _report(self, losses: list[Losses], images_per_s: float) -> None:
        self.result.eval()
        space = self.space.with_resolutions(self.plan.resolutions)
        configs = {"largest": space.largest, "middle": space.middle, "smallest": space.smallest}
        if not self._evaluator.count:
            configs = {}
        top1 = {name: round(self._evaluator.top1(self.result, config), 4) for name, config in configs.items()}
        loss = {
            name: torch.stack([getattr(losses_of_step, name) for losses_of_step in losses]).mean().item()
            for name in ("largest", "subnets")
        }
        record = {
            "step": self.steps_done,
            "phase": self.plan.at(self.steps_done - 1)[0].name,
            "loss": {name: round(value, 4) for name, value in loss.items()},
            "images_per_s": round(images_per_s, 1),
            "validation_top1": top1,
        }
        append_jsonl(self.folder / LOG_NAME, [record])
        accuracies = ", ".join(f"{name} {value:.1%}" for name, value in top1.items())
        log(
            f"step {self.steps_done} of {self.plan.steps} ({record['phase']}): loss {loss['largest']:.3f}, "
            f"{images_per_s:.0f} images/s" + (f", on held-out images {accuracies}" if accuracies else "")
        )


def _is_whole(path: Path) -> bool:
    """Whether a finished training's checkpoint is there as it was written."""
    if not path.exists():
        return False
    try:
        load_tensors(path)
    except UserError as error:
        log(f"{error.what}; it is written again from the training's state")
        return False
    return True


def _quoted(*paths: Path) -> list[str]:
    return [shlex.quote(str(path)) for path in paths]


def rate(phase: Phase, step: int) -> float:
    """The learning rate of a phase's step."""
    done = step / phase.steps
    value = phase.rate_end + (phase.rate_start - phase.rate_end) * (1 + math.cos(math.pi * done)) / 2
    return value * min(1.0, (step + 1) / (1 + phase.warmup * phase.steps))


def _named(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _as_json(value: Any) -> Any:
    """Tuples become lists, as after a trip through a file."""
    if isinstance(value, dict):
        return {name: _as_json(item) for name, item in value.items()}
    return [_as_json(item) for item in value] if isinstance(value, list | tuple) else value
