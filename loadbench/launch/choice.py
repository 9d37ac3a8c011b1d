"""One launcher for all runs: it passes each to the launcher of the cluster that the run names."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from loadbench.errors import Conflict
from loadbench.launch.base import Launcher, RunContext
from loadbench.launch.cluster import ClusterLauncher
from loadbench.launch.local import LocalLauncher
from loadbench.model import Cluster, LoadTestRun, RunProcess


class ClusterChoice:
    """Launches by cluster.

    Parameters
    ----------
    home : Path
        The data directory, for runs on this machine.
    clusters : callable
        Gives the clusters there are now.
    """

    def __init__(self, home: Path, clusters: Callable[[], Iterable[Cluster]]) -> None:
        self._local = LocalLauncher(home)
        self._clusters = clusters
        self._remote: dict[Cluster, ClusterLauncher] = {}

    def __repr__(self) -> str:
        return f"<ClusterChoice of {', '.join(cluster.id for cluster in self._clusters())}>"

    def start(self, run: LoadTestRun, script: bytes, context: RunContext) -> RunProcess | None:
        cluster = self._cluster(run)
        if cluster is not None and cluster.kind == "external":
            raise Conflict(f"on cluster {cluster.id} Locust is started by hand: register an external run instead")
        return self._of(run).start(run, script, context)

    def is_alive(self, run: LoadTestRun) -> bool | None:
        return self._of(run).is_alive(run)

    def stop(self, run: LoadTestRun) -> None:
        self._of(run).stop(run)

    def kill(self, run: LoadTestRun) -> None:
        self._of(run).kill(run)

    def last_words(self, run: LoadTestRun) -> str:
        return self._of(run).last_words(run)

    def deliver(self, run: LoadTestRun, context: RunContext) -> int:
        return self._of(run).deliver(run, context)

    def _of(self, run: LoadTestRun) -> Launcher:
        cluster = self._cluster(run)
        if cluster is None or cluster.kind != "cluster":
            return self._local  # it knows its own by their process, and of all others that it cannot know
        if cluster not in self._remote:
            self._remote[cluster] = ClusterLauncher(cluster)
        return self._remote[cluster]

    def _cluster(self, run: LoadTestRun) -> Cluster | None:
        if run.origin != "launched":
            return None
        return next((cluster for cluster in self._clusters() if cluster.id == run.cluster_id), None)
