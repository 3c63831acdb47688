"""Runs an exported torch program call by call: what an adopted one is compared with."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ofa_tvm.adoption.aten_operators import ATEN, TRANSLATIONS, TensorName
from ofa_tvm.adoption.torch_program import TorchProgram
from ofa_tvm.support.errors import UserError


@torch.inference_mode()
def run_program(program: TorchProgram, images: NDArray[np.float32], result: str) -> NDArray[np.float32]:
    """A tensor of a program for images (1, channels, height, width).

    Raises:
        UserError: it calls what is no operator of torch's own.
    """
    tensors: dict[str, Tensor] = {name: torch.from_numpy(array) for name, array in program.constants.items()}
    tensors[program.input] = torch.tensor(images)  # a copy: an operator in place may change it
    for call in program.calls:
        name, _, overload = call.target.removeprefix(ATEN).partition(".")
        if not call.target.startswith(ATEN) or name.rstrip("_") not in TRANSLATIONS:
            raise UserError(f"{call.target} cannot be taken", "export the model with operators that are")
        function = getattr(getattr(torch.ops.aten, name), overload)
        arguments = {
            key: tensors[value.name] if isinstance(value, TensorName) else value
            for key, value in call.arguments.items()
        }
        try:
            tensors[call.output] = function(**arguments)
        except (RuntimeError, TypeError, IndexError) as error:
            said = " ".join(str(error).split())[:200]
            raise UserError(
                f"torch cannot run {call.target} '{call.name}' on one image: {said}", "export it with a batch of one"
            ) from error
        if call.output == result:
            break
    found: NDArray[np.float32] = tensors[result].numpy()
    return found
