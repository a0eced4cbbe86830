"""How a model is trained: the order of the examples, the loop and its loss, the log, checkpoints, several devices."""
