"""What follows a step's gradients: they are clipped, and weights and the running mean of the weights move."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ofa_tvm.supernet.model import Supernet
from ofa_tvm.supernet.plan import Plan


class Update:
    """SGD with Nesterov's momentum; norms, biases and kernel matrices do not decay.

    Nothing waits for the device: a step without finite gradients is skipped there.

    Args:
        supernet: what moves.
        plan: how.
        mean: holds the running mean of the weights; the supernet itself where there is none.
    """

    def __init__(self, supernet: Supernet, plan: Plan, mean: Supernet) -> None:
        self._plan, self._is_averaged = plan, mean is not supernet
        self._parameters: list[Tensor] = list(supernet.parameters())
        self._means: list[Tensor] = list(mean.parameters())
        self._skipped = torch.zeros((), device=self._parameters[0].device)
        head = supernet.space.network(supernet.space.largest).layers[-1].name
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, parameter in supernet.named_parameters():
            decay = plan.weight_decay if name.endswith("weight") and parameter.dim() > 1 else 0.0
            scale = 1.0 if name.startswith(f"layers.{head}.") else plan.body_rate
            groups.setdefault((decay, scale), []).append(parameter)
        self._optimizer = torch.optim.SGD(
            [{"params": some, "weight_decay": decay, "scale": scale} for (decay, scale), some in groups.items()],
            lr=0.1,
            momentum=plan.momentum,
            nesterov=True,
            fused=True,
        )
        for trained in self._parameters:
            self._optimizer.state[trained]["momentum_buffer"] = torch.zeros_like(trained)

    def momentum(self, parameter: Tensor) -> Tensor:
        """The running sum of a parameter's gradients."""
        buffer: Tensor = self._optimizer.state[parameter]["momentum_buffer"]
        return buffer

    def skipped(self) -> int:
        """Steps in a row up to the last one that had no finite gradient; waits for the device."""
        return int(self._skipped.item())

    def __call__(self, number: int, rate: float) -> None:
        """Move after the given step, at a learning rate."""
        for group in self._optimizer.param_groups:
            group["lr"] = group["scale"] * rate
        norm = nn.utils.clip_grad_norm_(self._parameters, self._plan.clip_norm, foreach=True)
        is_lost = (~torch.isfinite(norm)).float()
        self._skipped = (self._skipped + 1) * is_lost
        self._optimizer.found_inf = is_lost  # type: ignore[attr-defined]  # the fused optimizer skips its step then
        self._optimizer.step()
        self._average(number)

    @torch.no_grad()
    def _average(self, number: int) -> None:
        """Move the mean of the weights; at first it follows them faster, so that it forgets the beginning."""
        if self._is_averaged:
            decay = min(self._plan.ema, (1 + number) / (10 + number))
            torch._foreach_lerp_(self._means, self._parameters, 1 - decay)
