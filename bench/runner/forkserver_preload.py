"""What the server of workers loads before it forks the first: libraries that every cell needs, and no device.

Nothing here may compute: threads that a computation starts are not there in a forked process.
"""

import gc

import lm_eval  # noqa: F401
import peft  # noqa: F401

import bench.runner.run_cell  # noqa: F401

# A cell collects garbage several times; the libraries' own objects, a second's worth, are not looked at.
gc.collect()
gc.freeze()
