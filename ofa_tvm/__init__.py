"""ofa_tvm: train one supernet, tune its kernels once per device, ship any subnet in seconds."""

__version__ = "0.1.0"
