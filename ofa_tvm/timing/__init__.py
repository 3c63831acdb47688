"""How a latency is measured and reported: windows of single calls, seconds apart, in turn with other subjects."""
