"""How a latency is measured and told: windows of single calls, seconds apart, in turn with others."""
