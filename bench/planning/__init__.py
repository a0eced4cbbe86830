"""What a sweep comes to before anything runs: its cells, their sizes, what they will take, their learning rates."""
