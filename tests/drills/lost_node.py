"""Run a sweep on a Ray cluster of two nodes on this machine, and lose one of them once both run a cell.

    python tests/drills/lost_node.py SWEEP.yaml RESULTS (shared|apart)

With `apart`, the actors do not find the results folder, as on machines without a common file system.
"""

from __future__ import annotations

import sys
import threading
import time

import ray
from ray.cluster_utils import Cluster

from bench.cli import app
from bench.planning.plan import PlannedCell
from bench.runner.ray_workers import RayCrew, RayWorker

MID_CELL_SECONDS = 0.3


def main(sweep: str, results: str, where: str) -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    second = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False)
    if where == "apart":
        places = RayCrew._places
        RayCrew._places = lambda crew: crew.probe.unlink() or places(crew)

    busy: set[str] = set()
    give = RayWorker.give

    def watched(worker: RayWorker, planned: PlannedCell) -> None:
        give(worker, planned)
        busy.add(worker.name)

    def lose() -> None:
        while len(busy) < 2:
            time.sleep(0.02)
        time.sleep(MID_CELL_SECONDS)
        cluster.remove_node(second, allow_graceful=False)
        print("a node was lost", flush=True)

    RayWorker.give = watched
    threading.Thread(target=lose, daemon=True).start()
    app(["run", sweep, "--results", results, "--ray", "auto"])


if __name__ == "__main__":
    main(*sys.argv[1:])
