"""cluster/ray-cluster.yaml by the schema and the preparation of Ray's own cluster launcher."""

import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def config() -> dict[str, Any]:
    """The file."""
    return yaml.safe_load((ROOT / "cluster" / "ray-cluster.yaml").read_text())


def test_ray_accepts_it_and_starts_every_worker(config: dict[str, Any]) -> None:
    prepared = prepare_config(config)
    validate_config(prepared)
    [node_type] = prepared["available_node_types"].values()
    assert node_type["min_workers"] == len(config["provider"]["worker_ips"])


@pytest.mark.parametrize(
    "change", [{"rsync_excludes": []}, {"provider": {"typ": "local"}}, {"max_workers": "two"}]
)
def test_ray_refuses_mistakes(config: dict[str, Any], change: dict[str, Any]) -> None:
    with pytest.raises((jsonschema.ValidationError, KeyError, TypeError, ValueError)):
        validate_config(prepare_config({**config, **change}))


def test_every_machine_gets_the_token_and_its_commands_are_shell(config: dict[str, Any]) -> None:
    assert "~/.ray/auth_token" in config["file_mounts"]
    starts = [*config["head_start_ray_commands"], *config["worker_start_ray_commands"]]
    private = ". ~/segtune/cluster/ray.env && python -m search.execution.own_ray.folder start "
    assert [line.startswith(private) for line in starts if line != "ray stop"] == [True, True]
    for line in [*config["setup_commands"], *starts]:
        subprocess.run(["bash", "-n", "-c", line], check=True)


def test_nothing_of_its_owner_is_copied_to_the_machines(config: dict[str, Any]) -> None:
    ignored = (ROOT / ".gitignore").read_text().split()
    names = {name.strip("/") for name in config["rsync_exclude"]}
    assert {".git", ".venv", "runs", "datasets", "prepared"} <= names
    assert names - {".git"} <= {name.strip("/") for name in ignored}
