"""What the server of worker processes loads before it forks the first: libraries that every cell needs, and no device.

Nothing here may compute: threads that a computation starts do not exist in a forked process.
"""

from bench.environment import quiet_process, without_collection

quiet_process()

# A cell collects garbage several times; the libraries' own objects, which take a second, are left out of that.
with without_collection():
    import lm_eval  # noqa: F401
    import peft  # noqa: F401

    import bench.runner.run_cell  # noqa: F401
