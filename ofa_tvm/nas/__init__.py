"""The search: the most accurate subnets that hold their limits."""
