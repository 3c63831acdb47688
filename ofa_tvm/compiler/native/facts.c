/* What the network is, for programs that have no manifest. What comes before this: EXPORT, and its sizes. */
EXPORT int ofa_tvm_batch(void) { return BATCH; }
EXPORT int ofa_tvm_classes(void) { return CLASSES; }
EXPORT int ofa_tvm_resolution(void) { return RESOLUTION; }
EXPORT int ofa_tvm_channels(void) { return CHANNELS; }
