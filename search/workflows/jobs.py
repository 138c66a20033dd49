"""Studies on a cluster seen from outside, through Ray Jobs: `--submit http://HOST:8265`.

The code (`search`, `trainer`, `spaces`) and the study travel as the job's working directory; data
and runs are where the cluster sees them. The driver is a process of the head, so that the machine
which submitted it can be switched off. Nothing of that machine's environment goes along: MLflow's
address and passwords are those that the head was started with.
"""

import asyncio
import logging
import re
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import requests
import yaml
from ray.job_submission import JobDetails, JobSubmissionClient

import search
import segtune_start
from search.execution.auth import find_token, token_path
from search.execution.environment import code_commit
from search.report.text import as_printed
from search.storage.studies import display_path
from search.study.config import StudyConfig
from trainer.configfile import ConfigError, did_you_mean
from trainer.exceptions import first_line

ANSWER_S = 10.0
"""How long a dashboard is given to answer."""

STOP_S = 300
"""How long trials have to write their checkpoints when Ray is told to stop the job; Ray gives 3."""

SAME_PYTHON = (
    r"sed -n 's|.* \(/.*\)/lib/python[0-9.]*/site-packages/ray/_raylet.so$|\1/bin/python|p;T;q' "
    "/proc/$PPID/maps"
)
"""Shell words for the Python that runs Ray itself: a PATH may lead to another, without segtune."""


BEGIN = "-- segtune --"
"""Divides what Ray writes into a job's log from what the command prints."""
CODE = {".py", ".typed", ".js", ".css", ".jinja", ".json", ".yaml"}
"""Of the files of segtune, what a cluster needs."""


class Cluster:
    """A Ray cluster behind its dashboard.

    Args:
        url: The dashboard's.

    Raises:
        ConfigError: It does not answer, or asks for a token that is missing or wrong.
    """

    POLL_S = 0.3

    def __init__(self, url: str):
        self.url = url.rstrip("/")
        headers = self._credentials()
        with self._refusals():
            self._jobs = JobSubmissionClient(self.url, headers=headers)
        for name in list(logging.root.manager.loggerDict):  # several set their own level
            if name.partition(".")[0] == "ray":
                logging.getLogger(name).setLevel(logging.ERROR)

    def _credentials(self) -> dict[str, str]:
        """Return the header with the token if it is asked for, and show it to nobody else."""
        if not self.url.startswith(("http://", "https://")):
            raise ConfigError([f"--submit {self.url}: must be the dashboard's http://HOST:8265"])
        status = self._ask({})
        if status not in (401, 403):
            return {}
        where = f"--submit {self.url}: the cluster asks for Ray's token, but"
        token = find_token()
        if token is None:
            raise ConfigError([f"{where} there is none here; copy the head's to {token_path()}"])
        headers = {"Authorization": f"Bearer {token}"}
        if self._ask(headers) in (401, 403):
            raise ConfigError([f"{where} ours is another one; copy the head's to {token_path()}"])
        return headers

    def _ask(self, headers: dict[str, str]) -> int:
        with self._refusals():
            answer = requests.get(f"{self.url}/api/version", headers=headers, timeout=ANSWER_S)
            if answer.status_code not in (401, 403):
                answer.raise_for_status()
                answer.json()["ray_version"]
        return answer.status_code

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        """Say in one line what the dashboard did not do."""
        try:
            yield
        except (requests.HTTPError, requests.JSONDecodeError, KeyError, TypeError) as error:
            raise ConfigError([f"--submit {self.url}: is not a Ray dashboard"]) from error
        except (requests.RequestException, ConnectionError) as error:
            raise ConfigError([f"--submit {self.url}: no Ray dashboard answers there"]) from error
        except RuntimeError as error:
            raise ConfigError([f"--submit {self.url}: {first_line(error)}"]) from error

    def launch(
        self,
        study: StudyConfig,
        runs: Path,
        earlier: Sequence[str],
        group: str | None = None,
        *,
        dry_run: bool = False,
        probe: bool = False,
    ) -> int:
        """Submit a study, after a look at it from there, and say how to go on.

        Args:
            study: What to search.
            runs: The folder of all studies, as the cluster sees it.
            earlier: Names of studies to learn from.
            group: Whose members may have a hand in it, too.
            dry_run: Only look at it from there, and show that.
            probe: And measure it there.

        Returns:
            Exit status.

        Raises:
            ConfigError: The study is running, or cannot be run there.
        """
        folder = seen_by_the_cluster(runs)
        words = ["launch", "study.yaml", "--runs", folder]
        words += [word for name in earlier for word in ("--warm-start", name)]
        words += [] if group is None else ["--group", group]
        look = [*words, "--dry-run", *["--probe", "--address", "auto"] * probe]
        if dry_run:
            return self._show(*self.run(look, study))
        return self._drive(study.study, words, look, folder, study)

    def retry(self, study: str, trials: Sequence[str], runs: Path | None) -> int:
        """Submit another try of trials, after a look at them from there, and say how to go on.

        Args:
            study: Its name.
            trials: Their numbers; none for all that failed.
            runs: As in `command`.

        Returns:
            Exit status.

        Raises:
            ConfigError: The study is running, or was not submitted there.
        """
        folder = self._folder(study, runs)
        words = ["retry", study, *trials, "--runs", folder]
        return self._drive(study, words, [*words, "--dry-run"], folder)

    def _folder(self, study: str, runs: Path | None) -> str:
        return seen_by_the_cluster(runs) if runs else _about(self._newest_job(study))["runs"]

    def _drive(
        self,
        study: str,
        words: Sequence[str],
        look: Sequence[str],
        folder: str,
        config: StudyConfig | None = None,
    ) -> int:
        """Submit a command that drives a study, after a look at it, and say how to go on.

        Where a job runs it already, that is asked for what a launch would change.
        """
        jobs = self._jobs_of(study)
        for job in jobs:
            if not job.status.is_terminal():
                why = ""
                if words[0] == "launch":
                    status, why = self.run([*words, "--if-running"], config)
                    if not status:
                        return self._show(status, why)
                running = f"--submit {self.url}: {study} is running, as {job.submission_id}"
                raise ConfigError([*why.splitlines(), running])
        status, output = self.run(look, config)
        if status:
            return self._show(status, output)
        # The name is taken when it runs already: of two submissions at once one is refused.
        name = f"segtune-{study}-{len(jobs) + 1}"
        about = {"segtune": "launch", "study": study, "runs": folder}
        self._submit([*words, "--address", "auto"], config, submission_id=name, metadata=about)
        of = f"{study} --submit {self.url}"
        print(
            f"submitted as {name}; it goes on without this machine\n"
            f"look    segtune status {of}\n"
            f"follow  segtune logs {of} --follow\n"
            f"stop    segtune stop {of}"
        )
        return 0

    def command(
        self, words: Sequence[str], study: str, runs: Path | None, *, trial: int | None = None
    ) -> int:
        """Run a short command about a study there, show what it prints and return its status.

        Args:
            words: The command and its options.
            study: Its name.
            runs: The folder of all studies; None for the one with which it was submitted.
            trial: Of which of its trials, where the command takes one as STUDY:7.

        Raises:
            ConfigError: The study was not submitted there.
        """
        command, *rest = words
        named = study if trial is None else f"{study}:{trial}"
        return self._show(*self.run([command, "--runs", self._folder(study, runs), named, *rest]))

    def follow(self, words: Sequence[str], study: str, runs: Path | None) -> int:
        """Run a command about a study there that goes on, show what it prints while it does.

        Ctrl-C ends it there too.

        Args:
            words: As for `command`.
            study: Its name.
            runs: As for `command`.

        Returns:
            Its exit status.

        Raises:
            ConfigError: The study was not submitted there.
        """
        folder = self._folder(study, runs)
        name = self._submit([words[0], study, *words[1:], "--runs", folder], None)
        with self._refusals():
            try:
                asyncio.run(self._follow(name))
            except KeyboardInterrupt:
                self._jobs.stop_job(name)
                return 0
            finally:
                while not self._jobs.get_job_status(name).is_terminal():
                    time.sleep(self.POLL_S)
                job = self._jobs.get_job_info(name)
                self._jobs.delete_job(name)
        return job.driver_exit_code or 0

    def _show(self, status: int, output: str) -> int:
        print(output, end="", file=sys.stderr if status else sys.stdout)
        return status

    def run(self, words: Sequence[str], study: StudyConfig | None = None) -> tuple[int, str]:
        """Run a short command of segtune there; return its exit status and what it printed."""
        name = self._submit(words, study)
        with self._refusals():
            while not (status := self._jobs.get_job_status(name)).is_terminal():
                time.sleep(self.POLL_S)
            job, text = self._jobs.get_job_info(name), self._jobs.get_job_logs(name)
            self._jobs.delete_job(name)
        if job.driver_exit_code is None:
            raise ConfigError([f"--submit {self.url}: {(job.message or status).splitlines()[0]}"])
        return job.driver_exit_code, _own(text)

    def _submit(self, words: Sequence[str], study: StudyConfig | None, **about: Any) -> str:
        command = f"P=$({SAME_PYTHON}); echo {BEGIN}; exec ${{P:-python}} -m search.cli.main "
        with self._refusals(), _working_directory(study) as folder:
            name: str = self._jobs.submit_job(
                entrypoint=command + shlex.join(words),
                runtime_env={
                    "working_dir": folder,
                    "env_vars": {
                        "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_S),
                        "SEGTUNE_COMMIT": code_commit(),
                    },
                },
                **about,
            )
        return name

    def _jobs_of(self, study: str | None) -> list[JobDetails]:
        """Return the jobs that launched a study, or all studies, in order."""
        with self._refusals():
            jobs = self._jobs.list_jobs()
        launched = [job for job in jobs if _about(job).get("segtune") == "launch"]
        named = [job for job in launched if study in (None, _about(job)["study"])]
        return sorted(named, key=lambda job: job.start_time or 0)

    def _newest_job(self, study: str) -> JobDetails:
        if jobs := self._jobs_of(study):
            return jobs[-1]
        names = [_about(job)["study"] for job in self._jobs_of(None)]
        hint = did_you_mean(study, names)
        raise ConfigError([f"--submit {self.url}: {study}: was not submitted there{hint}"])

    def logs(self, study: str, follow: bool) -> None:
        """Print what a study's driver has printed, and on request what it prints until it ends.

        Raises:
            ConfigError: The study was not submitted there.
        """
        name = self._newest_job(study).submission_id
        assert name is not None  # only what Ray did not submit has none
        with self._refusals():
            if follow:
                with suppress(KeyboardInterrupt):
                    asyncio.run(self._follow(name))
            else:
                print(as_printed(_own(self._jobs.get_job_logs(name))), end="")

    async def _follow(self, name: str) -> None:
        before: str | None = ""
        async for text in self._jobs.tail_job_logs(name):
            if before is not None:
                before += text
                if BEGIN not in before:
                    continue
                text, before = _own(before), None
            print(as_printed(text), end="", flush=True)
        print(as_printed(before or ""), end="")


def _about(job: JobDetails) -> dict[str, str]:
    """Return what a job was submitted with; empty for another program's."""
    return job.metadata or {}


def _own(log: str) -> str:
    """Return what the command printed; all where it was not even begun."""
    before, begin, text = log.partition(f"{BEGIN}\n")
    # Ray's line about the entrypoint is flushed after that has begun, and may come after its first.
    return re.sub(r"\ARunning entrypoint for job .*\n", "", text) if begin else before


@contextmanager
def _working_directory(study: StudyConfig | None) -> Iterator[str]:
    """Copy the code, and nothing that lies beside it, into a folder; and a study's settings."""
    code = Path(search.__file__).resolve().parents[1]
    with tempfile.TemporaryDirectory(prefix="segtune-") as name:
        folder = Path(name)
        for package in ("search", "trainer", "spaces"):
            for path in (p for p in (code / package).rglob("*") if p.suffix in CODE):
                copy = folder / path.relative_to(code)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(path.read_bytes())
        start = segtune_start.START
        (folder / start.name).write_bytes(start.read_bytes())
        if study:
            # Secrets travel with it: the driver there tells whom they are of.
            settings = study.model_dump(mode="json") | {"notify": study.notify.model_dump()}
            text = yaml.safe_dump(settings, sort_keys=False)
            (folder / "study.yaml").write_text(text)
        yield name


def seen_by_the_cluster(runs: Path) -> str:
    """Return the folder of all studies, if it means the same on the cluster.

    Raises:
        ConfigError: It is relative.
    """
    text = display_path(runs)
    if not (runs.is_absolute() or text.startswith("s3://")):
        rule = "must be absolute with --submit: a folder, or s3://…, as the cluster sees it"
        raise ConfigError([f"--runs {runs}: {rule}"])
    return text
