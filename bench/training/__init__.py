"""How a model is trained: batches in their order, the loop with its loss, its log, checkpoints and several devices."""
