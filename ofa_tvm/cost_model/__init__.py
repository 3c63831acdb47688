"""The latency model: how long any subnet of a space takes on a device."""
