"""Times without a device: counted instructions and a model of the CPU."""
