"""Whether a study's trials run on GPUs, and whether torch can use those that Ray has.

Import Ray, which the functions here do, after `search.execution.session.before_ray`.
"""

import os
import sys
from collections.abc import Callable

from search.execution.session import before_ray, ray_session
from search.study.checks import check
from search.study.config import StudyConfig
from trainer.configfile import ConfigError
from trainer.exceptions import first_line
from trainer.gpus import Gpus, free_gpu, look

ANSWER_S = 180.0
"""In which a node has to say what its torch sees: it may have to start a process first."""

Answer = Gpus | str
"""Of a node: what its torch sees, or in a line why it cannot be asked."""


def with_gpus(study: StudyConfig, gpus: float, where: str) -> StudyConfig:
    """Return a study with so many GPUs a trial, where it said `auto`.

    Raises:
        ConfigError: Something else of it needs another number.
    """
    trials = study.trials.model_copy(update={"gpus_per_trial": float(gpus)})
    resolved = study.model_copy(update={"trials": trials})
    if problems := check(resolved, where):
        raise ConfigError(problems)
    return resolved


def automatic(study: StudyConfig, address: str, say: Callable[[str], None]) -> float:
    """Return how many GPUs `auto` means: 1 where Ray has some that torch can use, else 0.

    Args:
        study: Its trials may be bound to the CPU by `train.device`.
        address: From `search.execution.session.ray_address`.
        say: Is told, in a line, what was found.

    Raises:
        ValueError: The cluster does not answer.
    """
    if study.train.get("device") == "cpu":
        return 0
    if address == "local":
        answers = {"here": _look_here()}
    else:
        before_ray(address)
        with ray_session(address):
            answers = _look_there()
    return _chosen(answers, say)


def _chosen(answers: dict[str, Answer], say: Callable[[str], None]) -> float:
    able = [found for found in answers.values() if isinstance(found, Gpus) and found.names]
    what = f"{able[0]}" if able else "; ".join(map(str, answers.values())) or "Ray has no GPU"
    say(f"gpus_per_trial: auto is {1 if able else 0}: {what}")
    return 1 if able else 0


def check_gpus(gpus: float, address: str) -> None:
    """Refuse trials on GPUs that torch cannot use: they would train on the CPU, or die.

    Args:
        gpus: Of a trial, above 0.
        address: Of the Ray that runs already.

    Raises:
        ConfigError: A line for each node that has GPUs for Ray and none for torch.
    """
    answers = {"here": _look_here()} if address == "local" else _look_there()
    problems = []
    for node, found in answers.items():
        if problem := found if isinstance(found, str) else found.problem:
            where = "" if node == "here" else f"node {node}: "
            problems.append(f"{where}trials.gpus_per_trial: {gpus:g}: {problem}")
    if problems:
        raise ConfigError(problems)


def device_for(gpus: float) -> str:
    """Return where work on a trial's weights beside its study goes on, as the setting `device`.

    That is a GPU if the trial had one and one is free here, which this process then has for itself.

    Args:
        gpus: Of the trial.
    """
    torch = sys.modules.get("torch")
    if not gpus or (torch is not None and torch.cuda.is_initialized()):
        return "cpu"
    if uuid := free_gpu():
        os.environ["CUDA_VISIBLE_DEVICES"] = uuid
        return "auto"
    return "cpu"


def gpus_of_ray() -> float:
    """Return how many GPUs the Ray that runs has."""
    import ray

    return float(ray.cluster_resources().get("GPU", 0))


def _look_here() -> Answer:
    try:
        return look()
    except (OSError, RuntimeError) as error:
        return str(error)


def _look() -> Answer:
    """Look from a Ray process that has no GPU, which Ray may have told so."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        del os.environ["CUDA_VISIBLE_DEVICES"]
    return _look_here()


def _look_there() -> dict[str, Answer]:
    """Ask every node that has GPUs for Ray, by its name."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0, max_retries=0)(_look)
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU", 0)]
    asked = {
        task.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote(): node["NodeManagerHostname"]
        for node in nodes
    }
    if asked:
        ray.wait([*asked], num_returns=len(asked), timeout=ANSWER_S)
    answers: dict[str, Answer] = {}
    for answer, name in asked.items():
        try:
            answers[name] = ray.get(answer, timeout=0.1)
        except ray.exceptions.GetTimeoutError:
            answers[name] = f"does not answer within {ANSWER_S:.0f} s"
        except ray.exceptions.RayError as error:
            answers[name] = first_line(error)
    return answers
