"""What a network's library is made of, on a CPU and on a GPU alike."""
