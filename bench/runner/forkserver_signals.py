"""What the server of worker processes loads first: signals that a cluster sends to all processes do not end it.

It ends with the run, which has ended the workers before.
"""

from bench.environment import handle_stop_signals

handle_stop_signals(lambda number, frame: None)
