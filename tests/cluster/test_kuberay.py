"""cluster/kuberay.yaml: core objects by Kubernetes' own schemas, custom ones field by field."""

import copy
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PATH = ROOT / "cluster" / "kuberay.yaml"
KUBERNETES = "1.34"

# The fields of KubeRay 1.7's custom resources (ray.io/v1): a type, a tuple of values, a table, a
# list of one of these, or the name of a core type.
STRINGS = {"*": str}
AUTOSCALER: dict[str, Any] = {
    "resources": "ResourceRequirements",
    "image": str,
    "imagePullPolicy": ("Always", "IfNotPresent", "Never"),
    "idleTimeoutSeconds": int,
    "upscalingMode": ("Default", "Aggressive", "Conservative"),
    "version": ("v1", "v2"),
}
GROUP: dict[str, Any] = {
    "template": "Pod",
    "rayStartParams": STRINGS,
    "resources": STRINGS,
    "labels": STRINGS,
}
RAY_CLUSTER: dict[str, Any] = {
    "rayVersion": str,
    "authOptions": {"mode": ("disabled", "token"), "secretName": str, "enableK8sTokenAuth": bool},
    "enableInTreeAutoscaling": bool,
    "autoscalerOptions": AUTOSCALER,
    "headServiceAnnotations": STRINGS,
    "upgradeStrategy": {"type": ("Recreate", "None")},
    "suspend": bool,
    "managedBy": ("ray.io/kuberay-operator", "kueue.x-k8s.io/multikueue"),
    "tlsOptions": {"enabled": bool},
    "headGroupSpec": {
        **GROUP,
        "serviceType": ("ClusterIP", "NodePort", "LoadBalancer"),
        "enableIngress": bool,
    },
    "workerGroupSpecs": [
        {
            **GROUP,
            "groupName": str,
            "replicas": int,
            "minReplicas": int,
            "maxReplicas": int,
            "idleTimeoutSeconds": int,
            "priority": int,
            "suspend": bool,
            "numOfHosts": int,
        }
    ],
}
RAY_JOB: dict[str, Any] = {
    "entrypoint": str,
    "entrypointNumCpus": (int, float),
    "entrypointNumGpus": (int, float),
    "entrypointResources": str,
    "runtimeEnvYAML": str,
    "jobId": str,
    "metadata": STRINGS,
    "submissionMode": ("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"),
    "submitterConfig": {"backoffLimit": int},
    "submitterPodTemplate": "Pod",
    "backoffLimit": int,
    "activeDeadlineSeconds": int,
    "ttlSecondsAfterFinished": int,
    "shutdownAfterJobFinishes": bool,
    "suspend": bool,
    "managedBy": ("ray.io/kuberay-operator", "kueue.x-k8s.io/multikueue"),
    "clusterSelector": STRINGS,
    "rayClusterSpec": RAY_CLUSTER,
}
CUSTOM = {"RayCluster": RAY_CLUSTER, "RayJob": RAY_JOB}


def core(kind: str, value: dict[str, Any]) -> None:
    """Check a core object strictly: an unknown field is an error."""
    head = {"apiVersion": "v1", "kind": kind}
    if kind == "Pod":
        head["metadata"] = {"name": "any"}
    kubernetes_validate.validate({**head, **value}, KUBERNETES, strict=True)


def check(value: Any, field: Any, where: str) -> None:
    """Check a value of a custom resource against its entry in the tables above."""
    match field:
        case "Pod":
            core("Pod", value)
        case str():
            raise NotImplementedError(f"{where}: {field}")
        case dict():
            assert isinstance(value, dict), where
            for key, item in value.items():
                assert key in field or "*" in field, f"{where}.{key}: no such field"
                check(item, field.get(key, field.get("*")), f"{where}.{key}")
        case list():
            assert isinstance(value, list), where
            for number, item in enumerate(value):
                check(item, field[0], f"{where}[{number}]")
        case (str(), *_):
            assert value in field, f"{where}: {value}"
        case _:
            assert isinstance(value, field), f"{where}: {value!r}"
            assert field is bool or not isinstance(value, bool), f"{where}: {value!r}"


def check_object(item: dict[str, Any]) -> None:
    """Check one object of the list."""
    if item["apiVersion"] == "v1":
        return core(item["kind"], item)
    assert item["apiVersion"] == "ray.io/v1" and {*item} == {
        *["apiVersion", "kind", "metadata", "spec"]
    }
    core("Pod", {"metadata": item["metadata"], "spec": {"containers": [{"name": "any"}]}})
    check(item["spec"], CUSTOM[item["kind"]], item["kind"])
    return None


@pytest.fixture
def items() -> list[dict[str, Any]]:
    """The objects, sharing nothing."""
    document = yaml.safe_load(PATH.read_text())
    assert {key: document[key] for key in ("apiVersion", "kind")} == {
        "apiVersion": "v1",
        "kind": "List",
    }
    return [copy.deepcopy(item) for item in document["items"]]


def of(items: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """Return the spec of the object of a kind."""
    [spec] = [item["spec"] for item in items if item["kind"] == kind]
    return spec


def test_every_object_has_known_fields_only(items: list[dict[str, Any]]) -> None:
    for item in items:
        check_object(item)
    kinds = {item["kind"]: item["metadata"]["labels"]["segtune"] for item in items}
    assert kinds == {"PersistentVolumeClaim": "volume", "RayJob": "job", "RayCluster": "cluster"}


@pytest.mark.parametrize(
    ("kind", "place", "value"),
    [
        ("PersistentVolumeClaim", "accessMode", []),
        ("RayJob", "backofLimit", 1),
        ("RayJob", "backoffLimit", "many"),
        ("RayJob", "rayClusterSpec.authOptions.secret", "a"),
        ("RayJob", "rayClusterSpec.authOptions.mode", "maybe"),
        ("RayCluster", "headGroupSpec.rayStartParams.num-cpus", 0),
        ("RayCluster", "headGroupSpec.template.spec.container", []),
        ("RayCluster", "headGroupSpec.template.spec.containers", "one"),
    ],
)
def test_checker_finds_a_mistake(
    items: list[dict[str, Any]], kind: str, place: str, value: Any
) -> None:
    [item] = [item for item in items if item["kind"] == kind]
    *way, last = place.split(".")
    inner = item["spec"]
    for key in way:
        inner = inner[key]
    inner[last] = value
    with pytest.raises((AssertionError, kubernetes_validate.ValidationError)):
        check_object(item)


def test_cluster_asks_for_its_token_and_trains_on_workers(items: list[dict[str, Any]]) -> None:
    cluster, job = of(items, "RayCluster"), of(items, "RayJob")
    assert cluster == job["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token", "secretName": "segtune-ray-token"}
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert job["backoffLimit"] > 0 and "clusterSelector" not in job
    assert yaml.safe_load(job["runtimeEnvYAML"]).keys() == {"env_vars"}
    [workers] = cluster["workerGroupSpecs"]
    assert workers["minReplicas"] <= workers["replicas"] <= workers["maxReplicas"]
    for template in (cluster["headGroupSpec"]["template"], workers["template"]):
        assert template["spec"]["securityContext"]["runAsNonRoot"]
        [container] = template["spec"]["containers"]
        volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
        assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
        assert volumes["shared"]["persistentVolumeClaim"]["claimName"] == "segtune"
    assert int(container["resources"]["limits"]["nvidia.com/gpu"]) >= 1
    assert of(items, "PersistentVolumeClaim")["accessModes"] == ["ReadWriteMany"]


def test_head_has_the_switches_of_the_scripts_and_the_version_that_is_tested(
    items: list[dict[str, Any]],
) -> None:
    cluster = of(items, "RayCluster")
    [head] = cluster["headGroupSpec"]["template"]["spec"]["containers"]
    switches = {entry["name"]: entry["value"] for entry in head["env"]}
    lines = (ROOT / "cluster" / "ray.env").read_text().splitlines()
    shared = dict(line[7:].split("=") for line in lines if line.startswith("export "))
    assert shared.pop("RAY_AUTH_MODE") == cluster["authOptions"]["mode"]
    assert switches == shared
    constraints = (ROOT / "constraints.txt").read_text().split()
    assert f"ray=={cluster['rayVersion']}" in constraints
