"""The trainer's `fit` behind Ray Tune's Trainable: one validation a step, in a warm process.

Ray keeps the process for the next trial, which then needs no second import of torch. What ends a
trial without a measurement (out of memory, divergence, a stop) is returned as a result, because an
exception costs the process; and every other exception is raised, because it should.
"""

import gc
import os
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import Any

import ray
from ray import tune

from search.analysis.case_scores import CASE_METRICS, case_metric, case_values, read_cases
from search.execution.environment import code_here
from search.execution.faults.failures import as_sent
from search.execution.faults.memory import oom_kills
from search.execution.hardware import cpu_model, gpu_in_use
from search.execution.logs.trial_log import TrialLog, begun
from search.execution.worker import check_memory, ending_of, gpu_memory_bytes, load
from search.execution.worker_group import UNHEARD, WorkerGroup
from search.storage import dataset_cache, run_folders
from search.storage.modes import use_modes_of

NODE_LABEL = "ray.io/node-id"
"""By which Ray tells nodes apart."""


class Trainable(tune.Trainable):
    """One attempt after the other, of any trials; its config is a `tuning.searcher.TrialSpec`."""

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> tune.PlacementGroupFactory:
        """Return the resources of one trial, a bundle a worker; equal ones share warm processes.

        They lie on one node, which is none of those that the attempt is to avoid.
        """
        workers = config["workers"]
        bundle = {"CPU": config["cpus"] / workers, "GPU": config["gpus"] / workers}
        elsewhere = {NODE_LABEL: f"!in({','.join(config['avoid'])})"}
        return tune.PlacementGroupFactory(
            [bundle] * workers,
            strategy="STRICT_PACK",
            **({"bundle_label_selector": [elsewhere] * workers} if config["avoid"] else {}),
        )

    def setup(self, config: dict[str, Any]) -> None:
        """Begin with nothing: a trial waits until this returns, and a hang here cannot be ended."""
        self._validations: Generator[Any, None, None] | None = None
        self._spec: dict[str, Any] = {}
        self._memory = 0
        self._group: WorkerGroup | None = None
        self._log = TrialLog()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Let go of the last trial, which was perhaps stopped without being told.

        Raises:
            RuntimeError: Its GPU memory did not come back; Ray then replaces this process.
        """
        self._release()
        check_memory(self._memory)
        return True

    def step(self) -> dict[str, Any]:
        """Train until the next validation.

        Returns:
            `{"epoch", "metrics", "cases", "gpu", "path"}` of a validation, the metrics and the
            objective of each case as pairs, the GPU's model and how its steps were computed, both
            empty for the CPU; or
            `{"done": True, "ending", "reason"}` with one of interrupted, diverged and infeasible.
        """
        if self._validations is None:
            self._spec = run_folders.on_this_node(self.config)
            use_modes_of(Path(self._spec["run_dir"]).parents[1])
            if not self.config["storage"] and self._stop.exists():
                return _end("interrupted", "stopped before it began")
            if (unheard := Path(self._spec["run_dir"]) / UNHEARD).exists():
                reason = unheard.read_text()
                unheard.unlink()
                return _end("infeasible", reason)
            self._validations = run_folders.sent_validations(self._logged, self._spec)
        try:
            received = self.config["received"]
            validation = next(v for v in self._validations if v.epoch > received)
        except StopIteration:
            self._release()
            if self._stop.exists():
                return _end("interrupted", "stopped")
            raise RuntimeError("the training ended before max_t") from None
        except (Exception, KeyboardInterrupt, SystemExit) as error:
            if hasattr(error, "ray_terminate_msg"):  # Ray's own, of a process that gets SIGTERM
                raise
            ending, reason = ending_of(error), str(error)
            if ending is None:
                raise as_sent(error) from None  # the log has it with all that led to it
        else:
            # Pairs, because Tune would flatten a dict and keep statistics on every number in it.
            metrics = [*validation.metrics.items()]
            where = {"gpu": gpu_in_use(), "path": validation.path}
            cases = [*self._cases(validation.epoch).items()]
            return {"epoch": validation.epoch, "metrics": metrics, "cases": cases, **where}
        self._release()  # only here is the exception gone, and with it what its frames held
        return _end(ending, reason)

    def _cases(self, epoch: int) -> dict[str, float]:
        """Return the objective of each validation case, as the run folder has it; or nothing."""
        metric = CASE_METRICS.get(name := self.config["objective"])
        if self._spec.get("trainer"):
            metric = case_metric(name)
        found = metric and case_values(read_cases(Path(self._spec["run_dir"]), epoch), metric)
        return found or {}

    @property
    def _stop(self) -> Path:
        return Path(self._spec["run_dir"]) / "stop"

    def where(self) -> dict[str, Any]:
        """Return where this process trains: what decides the last bits of its numbers.

        Returns:
            host, node (Ray's id of it), pid, cpu (the model's name, empty if not known), threads,
            the code: commit and versions, and `oom_kills`. The GPU is known, and reported, once
            torch computes.
        """
        return {
            "host": tune.Trainable.get_current_ip_pid(self)[0],
            "node": ray.get_runtime_context().get_node_id(),
            "pid": os.getpid(),
            "cpu": cpu_model(),
            "threads": self.config["threads"],
            **code_here(),
            "oom_kills": oom_kills(),
        }

    def _logged(self) -> Generator[Any, None, None]:
        """Train, with all that is printed meanwhile in the trial's log."""
        from trainer.progress import progress_line

        spec = self._spec
        path = Path(spec["run_dir"]) / run_folders.LOG
        with (
            self._log.kept(path, begun(spec["attempt"], spec["received"])),
            closing(self._fit()) as validations,
        ):
            for validation in validations:
                epochs = None if spec.get("trainer") else spec["train"].get("epochs")
                print(progress_line(validation.epoch, epochs, validation.metrics), flush=True)
                yield validation

    def _fit(self) -> Generator[Any, None, None]:
        """Start `fit`; its imports belong into the first step, where a hang is noticed."""
        spec = self._spec = dataset_cache.with_store_here(self._spec)
        if spec["workers"] > 1:
            if self._group is None or self._group.ended:
                self._group = WorkerGroup(spec)
            self._group.load(spec)  # while this process loads it as well
        fit = load(spec)
        self._memory = gpu_memory_bytes()
        return self._group.train(fit) if self._group else fit()

    def _release(self) -> None:
        if self._validations is not None:
            self._validations.close()
        self._validations = None
        gc.collect()

    def cleanup(self) -> None:
        """Close the trial's files and threads, and end its other processes."""
        self._release()
        if self._group is not None:
            self._group.end()
        self._log.close()


def _end(ending: str, reason: str) -> dict[str, Any]:
    return {"done": True, "ending": ending, "reason": reason}
