"""How many of this machine's cores torch works on."""

from __future__ import annotations

import torch

from ofa_tvm.support.cores import idle_cores


def use_host_threads(asked: int | None) -> int:
    """Set the number of torch's threads for the whole process, and return it.

    Torch's own choice is the number of cores that the machine reports: too few where torch counts two hardware threads
    as one core, and on a busy machine so many that they wait for each other (21 images a second became 3).

    Args:
        asked: by the user; None for the cores that are idle now.
    """
    count = asked or idle_cores()
    torch.set_num_threads(count)
    return count
