"""What the server of workers loads before it forks the first: libraries that every cell needs, and no device.

Nothing here may compute: threads that a computation starts are not there in a forked process.
"""

import gc

from bench.environment import quiet_process

quiet_process()

import lm_eval  # noqa: E402, F401
import peft  # noqa: E402, F401

import bench.runner.run_cell  # noqa: E402, F401

# A cell collects garbage several times; the libraries' own objects, a second's worth, are not looked at.
gc.collect()
gc.freeze()
