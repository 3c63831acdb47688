"""What our libraries are compared with."""
