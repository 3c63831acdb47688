"""Code that TVM's schedules make: one kernel a layer, on GPUs and for comparison."""
