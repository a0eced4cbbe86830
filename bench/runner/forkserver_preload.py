"""What the server of worker processes loads before it forks the first: libraries that every cell needs, and no device.

Nothing here may compute: threads that a computation starts do not exist in a forked process.
"""

import gc

from bench.environment import quiet_process

quiet_process()

import lm_eval  # noqa: E402, F401
import peft  # noqa: E402, F401

import bench.runner.run_cell  # noqa: E402, F401

# A cell collects garbage several times; the libraries' own objects, which take a second, are left out of that.
gc.collect()
gc.freeze()
