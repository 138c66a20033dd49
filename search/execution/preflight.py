"""Before the first trial: does every node see the study's folder and its data?

Import it after `search.execution.session.before_ray`: Ray reads its switches when it is imported.
"""

import json
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from search.storage.dataset_cache import address_for_all_nodes, content_hash, read_manifest
from search.storage.shared_marker import SharedMarker, answer_marker
from search.study.config import StudyConfig
from trainer.configfile import ConfigError
from trainer.exceptions import first_line

ANSWER_S = 120.0
"""In which a node has to answer: it may have to start a process first."""


def check_shared(folder: Path, study: StudyConfig) -> None:
    """Let every node that can run a trial read a marker, write one, and look at the store.

    Args:
        folder: The study's; the mirror of one in S3.
        study: The study, with its store and with the folder of a trainer of its own.

    Raises:
        ConfigError: One line for each node and what it does not see.
        OSError: This machine cannot write there.
    """
    store, content = address_for_all_nodes(study.data.store), content_hash(study.data.store)
    trainer = (study.trainer and study.trainer.folder) or ""
    with SharedMarker(folder) as marker:
        look_from: Any = ray.remote(num_cpus=0, max_retries=0)(inspect_node)
        tasks = {
            look_from.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ).remote(marker.place, marker.name, store, content, trainer): node
            for node in _trial_nodes()
        }
        problems = []
        while tasks:
            done, _ = ray.wait([*tasks], timeout=ANSWER_S)
            if not done:
                names = ", ".join(_name(node) for node in tasks.values())
                raise ConfigError([f"node {names}: does not answer within {ANSWER_S:.0f} s"])
            node = tasks.pop(done[0])
            try:
                answer, problem = ray.get(done[0])
            except ray.exceptions.RayError as error:
                if node["NodeID"] in {alive["NodeID"] for alive in _trial_nodes()}:
                    problems.append(f"node {_name(node)}: {first_line(error)}")
                continue  # it is gone, and runs no trial
            if not problem and not marker.has(answer):
                problem = f"{folder}: what this node writes there is not seen here"
            if problem:
                problems.append(f"node {_name(node)}: {problem}")
    if problems:
        raise ConfigError(problems)


def inspect_node(
    place: str, marker: str, store: str, content: str, trainer: str = ""
) -> tuple[str, str]:
    """Look at a study's folder and a store from the node on which this runs.

    Args:
        place: The folder, or the study's place in S3.
        marker: Name of a file there.
        store: data.store of the study; empty for none.
        content: Its content hash, as the driver sees it.
        trainer: trainer.folder of the study; empty for segtune's trainer.

    Returns:
        The name of the file that this wrote beside the marker, and in one line what is wrong here,
        empty if nothing is.
    """
    rule = "all nodes must see the runs (--runs) and the store under the same path, or in S3"
    try:
        answer = answer_marker(place, marker)
    except OSError as error:
        return "", f"{place}: {error.strerror or error}"
    if not answer:
        return "", f"{place}: not what the driver sees there; {rule}"
    if trainer and not Path(trainer).is_dir():
        return answer, f"trainer.folder: {trainer}: no such folder; all nodes must see it"
    if not store:
        return answer, ""
    try:
        found = json.loads(read_manifest(store))["content_hash"]
    except (OSError, ValueError, KeyError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        return answer, f"data.store: {store}: {reason}; {rule}"
    if found != content:
        return answer, f"data.store: {store}: has other content there; {rule}"
    return answer, ""


def _trial_nodes() -> list[dict[str, Any]]:
    """Return the nodes that could run a trial: a head may have no CPUs, and need see nothing."""
    return [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]


def _name(node: dict[str, Any]) -> str:
    name, address = node["NodeManagerHostname"], node["NodeManagerAddress"]
    return name if name == address else f"{name} ({address})"
