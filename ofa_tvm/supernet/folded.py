"""A subnet in eager torch from folded weights: what it costs without a compiler."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ofa_tvm.graph.network import LayerSpec, NetworkSpec
from ofa_tvm.graph.weights import Weights
from ofa_tvm.supernet.depthwise import padded_conv2d
from ofa_tvm.supernet.elastic import run, squeeze_excite, window_pool
from ofa_tvm.supernet.norm_activation import finish


class FoldedSubnet:
    """A network of folded weights (see ``graph.weights``), in channels_last order.

    Args:
        network: the subnet.
        weights: its folded weights.
        threads: CPU threads that torch uses from now on, in this whole process.
    """

    def __init__(self, network: NetworkSpec, weights: Weights, threads: int) -> None:
        torch.set_num_threads(threads)
        self._network = network
        self.tensors = {name: torch.from_numpy(array) for name, array in weights.items()}
        for layer in network.layers:
            if layer.kind == "squeeze_excite":
                for name in (f"{layer.name}.reduce.weight", f"{layer.name}.expand.weight"):
                    self.tensors[name] = self.tensors[name][:, :, None, None]
        for name, tensor in self.tensors.items():
            if tensor.dim() == 4:
                self.tensors[name] = tensor.contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Logits (batch, classes) of images (batch, channels, resolution, resolution)."""
        return self.run(images, self.tensors)

    def run(self, images: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
        """The same with ``tensors`` in place of its own, e.g. copies on another device."""

        def layer(inputs: Tensor, spec: LayerSpec, residual: Tensor | None = None) -> Tensor:
            return finish(_layer(tensors, inputs, spec), spec.activation, residual)

        return run(self._network, images, lambda _: layer)

    def layer(self, inputs: Tensor, spec: LayerSpec, residual: Tensor | None = None) -> Tensor:
        """One layer, with what follows in it."""
        return finish(_layer(self.tensors, inputs, spec), spec.activation, residual)

    def inputs(self, images: NDArray[np.float32]) -> Tensor:
        """A view of (batch, resolution, resolution, channels) images, which torch calls channels_last."""
        return torch.from_numpy(images).permute(0, 3, 1, 2)


class GpuSubnet(FoldedSubnet):
    """The same on a GPU.

    Args:
        network: the subnet.
        weights: its folded weights.
        threads: CPU threads that torch uses from now on, in this whole process.
        dtype: of maps and weights, by torch's name.
    """

    def __init__(self, network: NetworkSpec, weights: Weights, threads: int, dtype: str) -> None:
        super().__init__(network, weights, threads)
        # The same arithmetic for all that is compared: float32 products without TensorFloat-32.
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        self._dtype: torch.dtype = getattr(torch, dtype)
        self.tensors = {name: tensor.to("cuda", self._dtype) for name, tensor in self.tensors.items()}

    def inputs(self, images: NDArray[np.float32]) -> Tensor:
        """The images on the GPU."""
        return super().inputs(images).to("cuda", self._dtype)

    def wait(self) -> None:
        """Until the GPU is done."""
        torch.cuda.synchronize()

    def on_cpu(self, logits: object) -> NDArray[np.float32]:
        """Logits that a call gave, as an array."""
        assert isinstance(logits, Tensor)
        array: NDArray[np.float32] = logits.float().cpu().numpy()
        return array


def _layer(tensors: Mapping[str, Tensor], inputs: Tensor, spec: LayerSpec) -> Tensor:
    name = spec.name
    match spec.kind:
        case "conv" | "depthwise":
            groups = spec.out_channels if spec.kind == "depthwise" else spec.groups
            weight, bias = tensors[f"{name}.weight"], tensors.get(f"{name}.bias")
            return padded_conv2d(inputs, weight, spec.stride, spec.pads, groups, bias)
        case "squeeze_excite":
            reduce = (tensors[f"{name}.reduce.weight"], tensors[f"{name}.reduce.bias"])
            expand = (tensors[f"{name}.expand.weight"], tensors[f"{name}.expand.bias"])
            return squeeze_excite(inputs, spec, reduce, expand)
        case "max_pool" | "average_pool":
            return window_pool(inputs, spec)
        case "global_pool":
            return inputs.mean((2, 3), keepdim=True)
        case "linear":
            return F.linear(inputs.flatten(1), tensors[f"{name}.weight"], tensors.get(f"{name}.bias"))
