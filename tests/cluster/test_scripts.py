"""The shell scripts: shellcheck, and what relaunch.sh and local.sh do."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from search.cli.main import main
from tests.chaos.hosts import obstacle
from trainer.exit_status import MEANINGS, Exit

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = ROOT / "cluster"
SCRIPTS = sorted([*CLUSTER.glob("*.sh"), *Path(__file__).parent.glob("*.sh")])
RELAUNCH = CLUSTER / "relaunch.sh"


@pytest.mark.parametrize("path", [*SCRIPTS, *CLUSTER.glob("*.env"), ROOT / ".ci" / "run"], ids=str)
def test_shell_is_clean(path: Path) -> None:
    subprocess.run(["bash", "-n", path], check=True)
    assert os.access(path, os.X_OK) == (path.suffix != ".env")
    if not shutil.which("shellcheck"):
        pytest.skip("shellcheck is not installed")
    command = ["shellcheck", "--external-sources", "--shell=bash", path]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


MPS = """#!/bin/bash
echo "$* $CUDA_MPS_PIPE_DIRECTORY $([[ $1 == -d ]] || cat)" >>calls
"""


@pytest.mark.parametrize(("asked", "calls"), [("1", 2), ("", 0)])
def test_mps_runs_as_long_as_the_command_and_only_if_asked_for(
    tmp_path: Path, asked: str, calls: int
) -> None:
    (tmp_path / "nvidia-cuda-mps-control").write_text(MPS)
    (tmp_path / "nvidia-cuda-mps-control").chmod(0o755)
    pipes, others = tmp_path / "node" / "mps", tmp_path / "others"
    others.mkdir()
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SEGTUNE_MPS": asked}
    env["CUDA_MPS_PIPE_DIRECTORY"] = str(others)
    words = ['. "$0" && node_folder=$PWD/node && on_node "$@"', CLUSTER / "node.env", "bash", "-c"]
    command = ["bash", "-c", *words, "echo $CUDA_MPS_PIPE_DIRECTORY; ls node; exit 3"]
    result = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (3, "")
    assert others.is_dir()
    if not calls:
        assert not (tmp_path / "calls").exists() and result.stdout == f"{others}\n"
        return
    assert result.stdout == f"{pipes}\nmps\n"
    assert (tmp_path / "calls").read_text() == f"-d {pipes} \n {pipes} quit\n"
    assert not pipes.exists()


def test_mps_that_is_not_here_is_said_before_ray_starts(tmp_path: Path) -> None:
    if shutil.which("nvidia-cuda-mps-control"):
        pytest.skip("it is here")
    env = {**os.environ, "SEGTUNE_MPS": "1", "HOME": str(tmp_path)}
    (tmp_path / ".ray").mkdir()
    command = [CLUSTER / "local.sh", "start"]
    result = subprocess.run(command, env=env, capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr.startswith("SEGTUNE_MPS=1: nvidia-cuda-mps-control is not here")


@pytest.mark.parametrize(
    ("array", "calls"),
    [
        ({}, "requeue 7\n"),
        ({"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3"}, "requeue 7_3\n"),
    ],
)
def test_a_job_that_leaves_a_study_requeues_itself_alone(
    tmp_path: Path, array: dict[str, str], calls: str
) -> None:
    """The last job of an array has the array's number, which means all of them."""
    (tmp_path / "scontrol").write_text(f'#!/bin/bash\necho "$*" >>{tmp_path}/calls\n')
    (tmp_path / "leave").write_text("#!/bin/bash\nexit 75\n")
    for name in ("scontrol", "leave"):
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "SEGTUNE_WORK": "leave", "SLURM_JOB_ID": "7", **array}
    result = subprocess.run([CLUSTER / "worker.sh", "study"], cwd=ROOT, env=env)
    assert result.returncode == 75
    assert (tmp_path / "calls").read_text() == calls


def test_readme_names_every_file() -> None:
    text = (CLUSTER / "README.md").read_text()
    assert [path.name for path in CLUSTER.iterdir() if f"`{path.name}`" not in text] == [
        "README.md"
    ]


def relaunch(tmp_path: Path, statuses: str, **switches: str) -> tuple[int, int, str]:
    """Relaunch a command that ends with one status after another.

    Returns:
        Exit status, number of calls, stderr.
    """
    (tmp_path / "statuses").write_text(statuses)
    (tmp_path / "calls").write_text("")
    command = """
    echo >>calls
    read -ra statuses <statuses
    exit "${statuses[$(($(wc -l <calls) - 1))]}"
    """
    result = subprocess.run(
        [RELAUNCH, "bash", "-c", command],
        cwd=tmp_path,
        env={**os.environ, **switches},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return result.returncode, len((tmp_path / "calls").read_text()), result.stderr


@pytest.mark.parametrize(
    ("statuses", "status", "calls"),
    [
        ("0", 0, 1),
        ("2 0", 2, 1),  # bad input
        ("3 0", 3, 1),  # its trials only fail
        ("1 0", 0, 2),  # Ray's C++ after the head's death
        ("137 2 0", 0, 3),  # killed; then no head answers yet
    ],
)
def test_crashes_are_repeated_and_nothing_else(
    tmp_path: Path, statuses: str, status: int, calls: int
) -> None:
    assert relaunch(tmp_path, statuses)[:2] == (status, calls)


FINAL = {Exit.DONE, Exit.REFUSED, Exit.BROKEN}


@pytest.mark.parametrize("status", [*Exit, 128 + signal.SIGKILL], ids=int)
def test_statuses_are_repeated_as_their_list_says(tmp_path: Path, status: int) -> None:
    ended, calls, _ = relaunch(tmp_path, f"{int(status)} 0")
    assert (ended, calls) == ((int(status), 1) if status in FINAL else (0, 2))


def test_statuses_are_listed_in_help_and_docs() -> None:
    shown = " ".join(CliRunner().invoke(main, ["--help"]).output.split())
    docs = (ROOT / "docs" / "faults.md").read_text()
    assert "Ray that did not start" in MEANINGS[Exit.AWAY]
    for status, meaning in MEANINGS.items():
        assert f"{status.value} {meaning}" in shown
        assert f"| {status.value} | {meaning} |" in docs


def test_crashes_in_a_row_are_given_up(tmp_path: Path) -> None:
    status, calls, said = relaunch(tmp_path, "9 9 7 9", RELAUNCH_CRASHES="3")
    assert (status, calls) == (7, 3)
    assert "gave up: 3 crashes" in said and "again in 1 s" in said and "again in 2 s" in said


@pytest.mark.parametrize(
    ("ending", "status"), [("exit 0", 0), ("exit 1", 1)], ids=["stops", "crashes"]
)
def test_sigterm_is_passed_on_and_ends_the_repeating(
    tmp_path: Path, ending: str, status: int
) -> None:
    command = (
        f"trap 'echo told >>said; {ending}' TERM; echo ready >>said; while :; do sleep 0.05; done"
    )
    with subprocess.Popen([RELAUNCH, "bash", "-c", command], cwd=tmp_path) as process:
        said = tmp_path / "said"
        while not said.exists():
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == status
    assert said.read_text().split() == ["ready", "told"]


def test_sigterm_ends_the_pause_too() -> None:
    command = [RELAUNCH, "false"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        while "again in 2 s" not in process.stderr.readline():
            pass
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 1
        assert time.monotonic() - began < 1.5


@pytest.mark.parametrize("word", ["--node-ip-address", "--node-ip-address="])
def test_an_address_of_another_machine_is_said_at_once(tmp_path: Path, word: str) -> None:
    words = [f"{word}192.0.2.200"] if word.endswith("=") else [word, "192.0.2.200"]
    env = {**os.environ, "HOME": str(tmp_path)}
    result = subprocess.run([CLUSTER / "local.sh", "start", *words], env=env, capture_output=True)
    line = "--node-ip-address 192.0.2.200: is no address of this machine; it has: "
    assert result.returncode == 2 and line in result.stderr.decode()
    assert not (tmp_path / ".ray").exists(), "nothing was begun"


def test_local_sh_without_a_home_is_a_line() -> None:
    for env in ({}, {"HOME": "/proc/self"}):
        command = ["bash", CLUSTER / "local.sh", "start"]
        path = {"PATH": os.environ["PATH"]}
        result = subprocess.run(command, env=path | env, capture_output=True, text=True)
        assert result.returncode == 2 and result.stderr.count("\n") == 1
        assert f"HOME: {env.get('HOME', 'not set')}: must be a folder that you can" in result.stderr


LOOK = """
import json, urllib.request
from search.execution.session import before_ray, ray_address
assert ray_address("auto") == "127.0.0.1:6379", "whatever others planted"
before_ray("127.0.0.1:6379")
import ray
ray.init("127.0.0.1:6379", log_to_driver=False)
print(json.dumps(ray.cluster_resources()))
for headers in ({}, {"Authorization": "Bearer " + "f" * 64}):
    request = urllib.request.Request("http://127.0.0.1:8265/api/jobs/", headers=headers)
    try:
        urllib.request.urlopen(request)
    except urllib.error.HTTPError as error:
        print(error.code)
"""


@pytest.mark.slow
@pytest.mark.skipif(bool(reason := obstacle()), reason=reason)
@pytest.mark.timeout(800)
def test_local_head_listens_on_loopback_and_wants_the_token(tmp_path: Path) -> None:
    """In namespaces of its own, since its ports may be taken here.

    And `--address auto` finds it; its files are in a private folder, which is cleared.
    """
    short = Path(f"/tmp/local{os.getpid()}")
    look = tmp_path / "look.py"
    look.write_text(LOOK)
    script = f"""
    set -e
    ip link set lo up
    ip link add other type veth peer name far
    ip address add 192.0.2.77/24 dev other
    ip link set other up
    ip link set far up
    ip route add default dev other
    mkdir -p {short}/ray && echo 10.6.6.6:6379 >{short}/ray/ray_current_cluster
    cluster/local.sh start --num-cpus 2 >&2
    test "$(stat --format %a {short}/segtune-ray-*)" = 700
    ss --listening --numeric --tcp --no-header >{tmp_path}/listening
    RAY_AUTH_MODE=token python {look} >{tmp_path}/seen
    status=0
    cluster/local.sh start || status=$?
    test $status = 2
    cluster/local.sh stop
    ! pgrep --list-full 'raylet|gcs_server'
    ! ls -d {short}/segtune-ray-*
    """
    apart = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--net", "--ipc"]
    result = subprocess.run(
        [*apart, "bash", "-c", script],
        cwd=ROOT,
        env={
            **os.environ,
            "HOME": str(tmp_path),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "RAY_TMPDIR": str(short),
        },
        capture_output=True,
        text=True,
    )
    shutil.rmtree(short, ignore_errors=True)
    assert result.returncode == 0, result.stderr + result.stdout
    *_, resources, without, with_another = (tmp_path / "seen").read_text().splitlines()
    assert json.loads(resources)["CPU"] == 2
    assert (without, with_another) == ("401", "403")
    listening = [line.split()[3] for line in (tmp_path / "listening").read_text().splitlines()]
    assert any(address.endswith(":6379") for address in listening)
    assert [where for where in listening if "127.0.0.1" not in where and "::1" not in where] == []
    token = tmp_path / ".ray" / "auth_token"
    assert token.stat().st_mode & 0o777 == 0o600
    assert token.read_text() not in (tmp_path / ".ray" / "segtune.log").read_text()
