"""A training step on a GPU whose launches are recorded: what has run once is replayed as a CUDA graph."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

from ofa_tvm.data.dataset import Preprocess
from ofa_tvm.spaces import SearchSpace, SubnetConfig
from ofa_tvm.supernet.augment import preprocess
from ofa_tvm.supernet.depthwise import LANES, SIZES
from ofa_tvm.supernet.model import Supernet
from ofa_tvm.supernet.plan import Plan
from ofa_tvm.supernet.step import Answer, Losses
from ofa_tvm.supernet.training_device import has_triton

MAX_GRAPHS = 160
"""Networks whose launches are kept; the least recently run one is dropped first."""


def has_graphed_step(space: SearchSpace, device: torch.device) -> bool:
    """Whether this step can train the space: on a GPU, with Triton, and with layers that its kernels support."""
    if not has_triton(device):
        return False
    layers = space.network(space.largest).layers
    if space.own:
        return False
    return all(
        (layer.kind in ("linear", "global_pool") or layer.out_channels % LANES == 0)
        and (layer.kind != "depthwise" or layer.kernel_size in SIZES)
        and (layer.residual is None or layer.activation == "none")
        for layer in layers
    )


class GraphedStep:
    """Adds the gradients of a step's networks to the supernet's, as ``Step`` does.

    Args:
        supernet: on a GPU, in training mode; its gradients are kept where they are from now on.
        plan: what decides the losses.
        values: how images are preprocessed.
        teacher: answers beside the labels; None for none.
    """

    def __init__(self, supernet: Supernet, plan: Plan, values: Preprocess, teacher: Answer | None = None) -> None:
        self._space, self._plan, self._preprocess, self._teacher = supernet.space, plan, values, teacher
        self._gradients = [torch.zeros_like(parameter) for parameter in supernet.parameters()]
        for parameter, gradient in zip(supernet.parameters(), self._gradients, strict=True):
            parameter.grad = gradient
        self._device = self._gradients[0].device
        self._precision = torch.bfloat16 if plan.precision == "bfloat16" else torch.float32
        from ofa_tvm.supernet.tape import Tape  # needs Triton

        self._tape = Tape(supernet, self._precision)
        self._recorder = Recorder(self._device)
        self._images: dict[tuple[int, int], Tensor] = {}
        self._targets, self._answers, self._loss = (torch.empty(0, device=self._device) for _ in range(3))

    def __call__(self, images: Tensor, targets: Tensor, subnets: Sequence[SubnetConfig]) -> Losses:
        """Run forward and backward passes; see ``Step``."""
        largest, *others = subnets
        answers = None if self._teacher is None else self._teacher(images).softmax(1)
        smoothing, classes = self._plan.label_smoothing, targets.shape[1]
        wanted = (1 - smoothing) * targets + smoothing / classes
        if answers is not None:
            wanted = torch.lerp(wanted, answers, self._plan.teacher_share)
        if self._targets.shape != targets.shape:
            self._targets, self._answers = torch.empty_like(targets), torch.empty_like(targets)
            self._loss = torch.zeros((), device=self._device)
            self._recorder = Recorder(self._device)  # recordings use the old places
        torch._foreach_zero_(self._gradients)
        self._tape.refresh()
        self._passes(images, wanted, largest)
        loss = self._loss.clone()
        answers = self._answers.clone() if answers is None else answers
        rest = torch.zeros_like(loss)
        for config in others:
            self._passes(images, answers, config)
            rest += self._loss
        return Losses(loss, rest / max(1, len(others)))

    def _passes(self, images: Tensor, targets: Tensor, config: SubnetConfig) -> None:
        """One network forward and backward, with all it reads and writes at fixed places."""
        size, count = config.resolution, len(images)
        prepared = preprocess(images, self._preprocess, size).permute(0, 2, 3, 1)
        if (count, size) not in self._images:
            self._images[count, size] = torch.empty_like(prepared, dtype=self._precision)
        inputs = self._images[count, size]
        inputs.copy_(prepared)
        self._targets.copy_(targets)
        network = self._space.network(config)

        def work() -> None:
            shares = self._tape.forward(network, inputs).log_softmax(1)
            self._answers.copy_(shares.exp())
            self._loss.copy_(-(self._targets * shares).sum(1).mean())
            self._tape.backward((self._answers - self._targets) / count)

        self._recorder((config, count), work)


class Recorder:
    """Runs work on a device; from its second time on as a recorded graph of launches, on a GPU.

    The first time runs as it is, so that libraries and kernels are loaded before anything is recorded.
    """

    def __init__(self, device: torch.device) -> None:
        self._is_gpu = device.type == "cuda"
        self._graphs: OrderedDict[Hashable, torch.cuda.CUDAGraph | None] = OrderedDict()
        if self._is_gpu:
            self._pool, self._stream = torch.cuda.graph_pool_handle(), torch.cuda.Stream()  # type: ignore[no-untyped-call]

    def __call__(self, key: Hashable, work: Callable[[], None]) -> None:
        """Run work that reads and writes the same memory whenever it has this key."""
        if not self._is_gpu or key not in self._graphs:
            work()
            self._graphs[key] = None
        else:
            graph = self._graphs[key] or self._record(work)
            graph.replay()
            self._graphs[key] = graph
        self._graphs.move_to_end(key)
        if len(self._graphs) > MAX_GRAPHS:
            self._graphs.popitem(last=False)

    def _record(self, work: Callable[[], None]) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        with torch.cuda.stream(self._stream):
            graph.capture_begin(pool=self._pool, capture_error_mode="relaxed")
            try:
                work()
            finally:
                graph.capture_end()
        return graph
