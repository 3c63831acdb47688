"""Code for CPUs: kernels written as TensorIR, their objects, and the library that calls them."""
