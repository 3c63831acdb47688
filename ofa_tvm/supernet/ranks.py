"""Several processes that train one supernet together, each on its share of a batch (``torchrun``)."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ofa_tvm.support.errors import UserError

Item = TypeVar("Item")


def is_first_process() -> bool:
    """Whether this process is the first that torchrun has started, or started without it."""
    return os.environ.get("RANK", "0") == "0"


@dataclass(frozen=True)
class Ranks:
    """This process among those that train.

    Args:
        rank: its number.
        count: how many there are.
    """

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and messages."""
        return self.rank == 0

    def share(self, rows: Tensor) -> Tensor:
        """This process's part of a batch; the parts are of equal size.

        Raises:
            UserError: the batch cannot be divided equally.
        """
        if len(rows) % self.count:
            raise UserError(f"a batch of {len(rows)} cannot be divided among {self.count} processes", "change --batch")
        return rows[self.rank :: self.count]

    def mean_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace gradients by their mean over all processes, in one message."""
        if self.count == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients]) / self.count
        dist.all_reduce(flat)
        parts = flat.split([gradient.numel() for gradient in gradients])  # type: ignore[no-untyped-call]
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def rounds(self, work: Sequence[Item]) -> Iterator[Sequence[Item]]:
        """Work in rounds, in each of which every process has at most one piece."""
        size = self.count
        yield from (work[start : start + size] for start in range(0, len(work), size))

    def spread(self, work: Sequence[Item], do: Callable[[Item], float]) -> list[float]:
        """Do each piece of work in one process; every process gets all results."""
        results = torch.zeros(len(work), dtype=torch.float64)
        for number in range(self.rank, len(work), self.count):
            results[number] = do(work[number])
        if self.count > 1:
            results = results.to(torch.device("cuda" if dist.get_backend() == "nccl" else "cpu"))
            dist.all_reduce(results)
        values: list[float] = results.tolist()
        return values

    def wait(self) -> None:
        """Wait until all processes have arrived here."""
        if self.count > 1:
            dist.barrier()


def end_process(code: int) -> NoReturn:
    """End this process, one of several, with an exit code.

    Threads of a process group sometimes abort an interpreter that shuts down; so this skips the shutdown.
    """
    if dist.is_initialized():
        dist.destroy_process_group()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def joined(device: torch.device) -> Ranks:
    """The processes that ``torchrun`` started, this one among them; this one alone where it did not."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return Ranks()
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return Ranks(dist.get_rank(), dist.get_world_size())
