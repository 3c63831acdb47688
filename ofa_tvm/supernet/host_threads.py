"""How many of this machine's cores torch works on."""

from __future__ import annotations

import torch

from ofa_tvm.support.cores import idle_cores


def use_host_threads(asked: int | None) -> int:
    """Set torch's threads, of the whole process, and tell how many there are.

    Torch's own choice is the number of cores that the machine says it has: too few where it takes threads for halves of
    a core, and on a busy machine so many that they wait for each other (21 images a second became 3).

    Args:
        asked: by the user; None for the cores that are idle now.
    """
    count = asked or idle_cores()
    torch.set_num_threads(count)
    return count
