"""ofa_tvm: train one supernet, tune its kernels once per device, ship any subnet in seconds."""

from ofa_tvm.support.version import VERSION

__version__ = VERSION
