"""Whether the kernel ended processes of a node because memory was short."""

import re
from pathlib import Path

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

ANSWER_S = 10.0
"""In which a node has to answer; it may have to start a process first, with little memory."""
_CGROUP = Path("/sys/fs/cgroup")


def oom_kills(proc: Path = Path("/proc")) -> int:
    """Return how many processes the kernel has ended here for want of memory, -1 if not known.

    In this process's own cgroup, a container's say, where the kernel tells of that, else on the
    machine.
    """
    for path in (*_events_of_group(proc), proc / "vmstat"):
        try:
            found = re.search(r"^oom_kill (\d+)$", path.read_text(), re.M)
        except OSError:
            continue
        if found:
            return int(found[1])
    return -1


def _events_of_group(proc: Path) -> list[Path]:
    """Return where the kernel counts for this process's cgroup: version 2, then version 1."""
    try:
        lines = (proc / "self/cgroup").read_text().splitlines()
    except OSError:
        return []
    groups = dict(line.split(":", 2)[1:] for line in lines if line.count(":") >= 2)
    events = [_CGROUP / groups[""].lstrip("/") / "memory.events"] if "" in groups else []
    if "memory" in groups:
        events.append(_CGROUP / "memory" / groups["memory"].lstrip("/") / "memory.oom_control")
    return events


def oom_kills_on(node: str) -> int:
    """Return `oom_kills` of a node, -1 if it does not answer.

    Args:
        node: Ray's id of it.
    """
    if node == ray.get_runtime_context().get_node_id():
        return oom_kills()
    at_node = NodeAffinitySchedulingStrategy(node, soft=False)
    count = ray.remote(num_cpus=0, max_retries=0)(oom_kills)
    try:
        asked = count.options(scheduling_strategy=at_node).remote()
        found: int = ray.get(asked, timeout=ANSWER_S)
    except (ray.exceptions.RayError, ValueError):  # of a node that is gone
        return -1
    return found
