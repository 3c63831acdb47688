"""Kernels written directly as TensorIR: register tiles whose every load, multiply-add and store is chosen here."""
