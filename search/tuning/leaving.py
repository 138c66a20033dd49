"""Nodes whose job has to end: their trials write checkpoints, and go on elsewhere."""

import ray

from search.execution.faults.recovery import Recovery
from search.execution.own_ray.head import leaving, let_go
from search.execution.own_ray.node import MARK
from search.ledger.session import StudySession
from search.tuning.searcher import StudySearcher


class Leaving:
    """Empties the nodes that ask to leave, and then lets them go.

    Args:
        session: The study.
        searcher: Knows which trials have an attempt.
        recovery: Knows where they run, and starts nothing more on a node that leaves.
    """

    def __init__(self, session: StudySession, searcher: StudySearcher, recovery: Recovery):
        self._session = session
        self._searcher = searcher
        self._recovery = recovery

    def poll(self) -> None:
        """Look at who asks, which costs one look into a folder where nobody does."""
        names = [*leaving(self._session.folder)]
        if not names:
            return
        nodes = {
            resource: node["NodeID"]
            for node in ray.nodes()
            if node["Alive"]
            for resource in node["Resources"]
            if resource.startswith(MARK)
        }
        for name in names:
            if name not in nodes:  # it has gone, with whatever ran there
                let_go(self._session.folder, name)
                continue
            self._recovery.leaves(nodes[name])
            there = self._recovery.on(nodes[name], self._searcher.trials_with_attempt())
            for trial in there:
                if trial not in self._session.why_stopped:
                    self._session.ask_to_stop(trial, "its node's job has to end")
            if not there:
                let_go(self._session.folder, name)
