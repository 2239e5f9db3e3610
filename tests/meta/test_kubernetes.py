"""Check the manifests of deploy/kubernetes with the schemas of Kubernetes and with the code."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from app import create_app
from harborguard.cli import main
from harborguard.config import Config
from tests.meta.test_docs import settings_in_code

ROOT = Path(__file__).parents[2]
DIRECTORY = ROOT / "deploy" / "kubernetes"
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
KUSTOMIZATION = yaml.safe_load((DIRECTORY / "kustomization.yaml").read_text())
MANIFESTS: dict[str, Any] = {
    name: yaml.safe_load((DIRECTORY / name).read_text()) for name in KUSTOMIZATION["resources"]
}
JOB = MANIFESTS["migrate.yaml"]["spec"]["template"]
DEPLOYMENT = MANIFESTS["deployment.yaml"]["spec"]
PRUNE = MANIFESTS["prune.yaml"]["spec"]["jobTemplate"]["spec"]["template"]
PODS: dict[str, Any] = {"migrate": JOB, "service": DEPLOYMENT["template"], "prune": PRUNE}
SECRETS = "/run/secrets/harborguard"


def container(pod: str) -> dict[str, Any]:
    [only] = PODS[pod]["spec"]["containers"]
    return only


@pytest.mark.parametrize("version", ["1.30", kubernetes_validate.latest_version()])
@pytest.mark.parametrize("name", MANIFESTS)
def test_manifest_is_valid_without_unknown_fields(name: str, version: str) -> None:
    kubernetes_validate.validate(MANIFESTS[name], version, strict=True)


def test_kustomization_lists_every_manifest() -> None:
    names = {path.name for path in DIRECTORY.iterdir()}
    assert names == {"kustomization.yaml", *MANIFESTS}
    [image] = KUSTOMIZATION["images"]
    assert {container(pod)["image"] for pod in PODS} == {image["name"]}


def test_kustomization_gives_every_pod_the_label_of_the_network_policy() -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed")
    done = subprocess.run([kubectl, "kustomize", DIRECTORY], capture_output=True, text=True)
    if "unknown field" in done.stderr:
        pytest.skip("kubectl is too old for this kustomization")
    built = [*yaml.safe_load_all(done.stdout)]
    assert {each["metadata"]["namespace"] for each in built} == {"harborguard"}
    selected = MANIFESTS["network-policy.yaml"]["spec"]["podSelector"]["matchLabels"]
    templates = re.findall(
        r"\n( +)template:\n +metadata:\n +labels:\n((?:\1    .+\n)+)", done.stdout
    )
    assert len(templates) == len(PODS)
    for _, labels in templates:
        assert selected.items() <= yaml.safe_load(labels).items()


@pytest.mark.parametrize("pod", PODS)
def test_pod_is_confined_as_the_user_of_the_image(pod: str) -> None:
    spec = PODS[pod]["spec"]
    [user, group] = map(int, re.findall(r"^USER (\d+):(\d+)$", DOCKERFILE, re.MULTILINE)[0])
    assert spec["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": user,
        "runAsGroup": group,
        "fsGroup": group,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container(pod)["securityContext"] == {
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["automountServiceAccountToken"] is False
    assert set(container(pod)["resources"]["limits"]) == {"memory"}


@pytest.mark.parametrize("pod", PODS)
def test_pod_has_known_settings_and_reads_secrets_from_files(pod: str) -> None:
    settings = {each["name"]: each["value"] for each in container(pod)["env"]}
    assert {name.removesuffix("_FILE") for name in settings} <= settings_in_code()
    assert settings["DATABASE_URL_FILE"] == f"{SECRETS}/database-url"
    mounts = {each["name"]: each for each in container(pod)["volumeMounts"]}
    assert mounts["secrets"] == {"name": "secrets", "mountPath": SECRETS, "readOnly": True}
    volumes = {each["name"]: each for each in PODS[pod]["spec"]["volumes"]}
    assert volumes["secrets"]["secret"] == {"secretName": "harborguard", "defaultMode": 0o440}
    assert mounts["tmp"]["mountPath"] == "/tmp"
    assert set(volumes) == {"secrets", "tmp"}


def test_probes_and_ports_are_those_of_the_service() -> None:
    service = container("service")
    [port] = service["ports"]
    assert f"EXPOSE {port['containerPort']}\n" in DOCKERFILE
    assert f"HARBORGUARD_BIND=0.0.0.0:{port['containerPort']}\n" in DOCKERFILE
    [exposed] = MANIFESTS["service.yaml"]["spec"]["ports"]
    assert exposed["targetPort"] == port["name"]
    [ingress] = MANIFESTS["network-policy.yaml"]["spec"]["ingress"]
    assert ingress["ports"] == [{"protocol": "TCP", "port": port["containerPort"]}]
    probes = {
        kind: service[kind]["httpGet"]
        for kind in ("startupProbe", "readinessProbe", "livenessProbe")
    }
    paths = {rule.rule for rule in create_app(Config()).url_map.iter_rules()}
    assert all(probe["path"] in paths and probe["port"] == "http" for probe in probes.values())
    assert probes["readinessProbe"]["path"] == "/api/ready"
    assert probes["livenessProbe"]["path"] == probes["startupProbe"]["path"] == "/api/health"


def test_selectors_match_the_pods_of_the_service_alone() -> None:
    budget = MANIFESTS["disruption-budget.yaml"]["spec"]["selector"]["matchLabels"]
    selectors = [DEPLOYMENT["selector"]["matchLabels"], budget]
    selectors.append(MANIFESTS["service.yaml"]["spec"]["selector"])
    for selector in selectors:
        matching = [
            pod
            for pod, template in PODS.items()
            if selector.items() <= template["metadata"]["labels"].items()
        ]
        assert matching == ["service"]


def test_pod_may_finish_running_requests() -> None:
    [_, pause] = container("service")["lifecycle"]["preStop"]["exec"]["command"]
    grace = PODS["service"]["spec"]["terminationGracePeriodSeconds"]
    assert grace >= int(pause) + 30  # gunicorn's graceful_timeout
    assert DEPLOYMENT["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


@pytest.mark.parametrize("pod", ["migrate", "prune"])
def test_command_of_the_pod_exists_with_its_options(pod: str) -> None:
    program, name, *arguments = container(pod)["command"]
    assert program == "harborguard"
    context = main.commands[name].make_context(name, arguments)
    assert context.command.name == name
    assert MANIFESTS["prune.yaml"]["spec"]["concurrencyPolicy"] == "Forbid"
