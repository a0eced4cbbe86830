"""The plan of a sweep, made before anything runs: its cells, their sizes, time and memory, their learning rates."""
