"""How accurate subnets are: evaluated, and predicted."""
