"""The recipes for clusters: valid for Ray's own code, closed but for SSH, with tokens; what a job uploads."""

from __future__ import annotations

import http.server
import os
import signal
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
import yaml

from raypref.cluster import remote
from raypref.commands import spot
from tests.support.processes import CHECKOUT, environment

LAUNCHED = ("cluster.yaml", "docs/clusters/gcp.yaml", "docs/clusters/on-premise.yaml")  # by `ray up`
CLOUDS = LAUNCHED[:2]
KUBERAY = CHECKOUT / "docs/clusters/kuberay.yaml"
MOST_UPLOADED = 6_000_000  # of which the shipped model is 3.7


def content(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((CHECKOUT / name).read_text())
    return loaded


def prepared(name: str) -> dict[str, Any]:
    """As `ray up` prepares it, defaults filled in."""
    from ray.autoscaler._private.util import prepare_config

    filled: dict[str, Any] = prepare_config(content(name))
    return filled


@pytest.mark.parametrize("name", LAUNCHED)
def test_valid_for_ray(name: str) -> None:
    from ray.autoscaler._private.util import validate_config

    validate_config(prepared(name))


@pytest.mark.parametrize("name", LAUNCHED)
def test_the_dashboard_stays_on_the_head_and_all_want_the_token(name: str) -> None:
    config = prepared(name)
    starts = {
        kind: [line for line in config[f"{kind}_start_ray_commands"] if "ray start" in line]
        for kind in ("head", "worker")
    }
    assert [len(lines) for lines in starts.values()] == [1, 1]
    assert "--dashboard-host=127.0.0.1" in starts["head"][0]
    assert all("RAY_AUTH_MODE=token" in lines[0] for lines in starts.values())
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert "0.0.0.0" not in (CHECKOUT / name).read_text()


def test_no_port_but_ssh_is_open() -> None:
    """The security group that Ray itself would make of it: to the outside SSH, all else among the cluster's nodes."""
    from ray.autoscaler._private.aws.config import _create_default_inbound_rules

    group = prepared("cluster.yaml")["provider"]["security_group"]
    rules = _create_default_inbound_rules({"sg-own"}, group.get("IpPermissions", []))
    outside = [rule for rule in rules if "IpRanges" in rule or "Ipv6Ranges" in rule]
    assert [(rule["FromPort"], rule["ToPort"]) for rule in outside] == [(22, 22)]
    inside = [rule for rule in rules if rule not in outside]
    assert [rule["UserIdGroupPairs"] for rule in inside] == [[{"GroupId": "sg-own"}]]


@pytest.mark.parametrize("name", CLOUDS)
@pytest.mark.parametrize("spot_left", [True, False])
def test_spot_first_and_on_demand_where_there_is_none(name: str, spot_left: bool) -> None:
    """By the scheduler that Ray's autoscaler has."""
    from ray.autoscaler.v2.scheduler import NodeTypeConfig, ResourceDemandScheduler, SchedulingRequest
    from ray.autoscaler.v2.utils import ResourceRequestUtil

    config = prepared(name)
    types = {
        kind: NodeTypeConfig(
            name=kind, resources=given["resources"], min_worker_nodes=0, max_worker_nodes=given.get("max_workers", 0)
        )
        for kind, given in config["available_node_types"].items()
    }
    wanted = ResourceRequestUtil.group_by_count([ResourceRequestUtil.make({"GPU": 1, "CPU": 1})] * 8)
    reply = ResourceDemandScheduler(None).schedule(
        SchedulingRequest(
            disable_launch_config_check=True,
            node_type_configs=types,
            max_num_nodes=config["max_workers"],
            resource_requests=wanted,
            cloud_resource_availabilities={} if spot_left else {"gpu-spot": 0.0},
        )
    )
    assert [request.instance_type for request in reply.to_launch] == ["gpu-spot" if spot_left else "gpu-z-on-demand"]
    assert config["available_node_types"]["head"]["resources"] == {"CPU": 0, "GPU": 0}  # it runs no trials


def test_the_kubernetes_job_has_the_shape_of_its_kind() -> None:
    job = yaml.safe_load(KUBERAY.read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert f"ray=={cluster['rayVersion']}" in (CHECKOUT / "constraints.txt").read_text().splitlines()
    assert f"rayproject/ray:{cluster['rayVersion']}" in (CHECKOUT / "docs/clusters/Dockerfile").read_text()
    head, (workers,) = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    assert head["serviceType"] == "ClusterIP"
    assert head["rayStartParams"]["num-cpus"] == "0"
    assert workers["minReplicas"] <= workers["replicas"] <= workers["maxReplicas"]
    for group in (head, workers):
        (container,) = group["template"]["spec"]["containers"]
        assert container["resources"]["requests"].keys() == container["resources"]["limits"].keys()
        assert all(isinstance(variable["value"], str) for variable in container["env"])
        assert "ports" not in container
        assert "hostNetwork" not in group["template"]["spec"]
    assert "dashboard-host" not in KUBERAY.read_text()


def faults_of(job: dict[str, Any]) -> list[str]:
    """Where a manifest departs from the schema that KubeRay's CRD has for it."""
    schema = yaml.safe_load(Path(__file__).with_name("rayjob_schema.yaml").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return [fault.json_path for fault in jsonschema.Draft202012Validator(schema).iter_errors(job)]


def test_the_kubernetes_job_is_valid_by_the_crd() -> None:
    assert faults_of(yaml.safe_load(KUBERAY.read_text())) == []


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        ("backofLimit", 3, "$.spec"),  # misspelt
        ("backoffLimit", "3", "$.spec.backoffLimit"),
        ("submissionMode", "JobMode", "$.spec.submissionMode"),
        ("rayClusterSpec.authOptions.mode", "on", "$.spec.rayClusterSpec.authOptions.mode"),
        ("rayClusterSpec.headGroupSpec.rayStartParams.num-cpus", 0, "$.spec.rayClusterSpec.headGroupSpec"),
        ("rayClusterSpec.workerGroupSpecs.0.groupName", None, "$.spec.rayClusterSpec.workerGroupSpecs[0]"),
        ("rayClusterSpec.workerGroupSpecs.0.minReplica", 0, "$.spec.rayClusterSpec.workerGroupSpecs[0]"),
        ("rayClusterSpec.headGroupSpec.template.spec.containers.0.resources.limits.memory", "16 GB", "limits.memory"),
        ("rayClusterSpec.headGroupSpec.template.spec.containers.0.env.0.value", 1, "containers[0].env[0].value"),
        ("rayClusterSpec.headGroupSpec.template.spec.restartPolicy", "Always", "template.spec.restartPolicy"),
    ],
)
def test_a_mistake_in_the_kubernetes_job_is_seen(path: str, value: object, fault: str) -> None:
    """One field set, or with None taken out."""
    job = yaml.safe_load(KUBERAY.read_text())
    *above, last = path.split(".")
    inside = job["spec"]
    for name in above:
        inside = inside[int(name) if name.isdecimal() else name]
    inside.pop(last) if value is None else inside.update({last: value})
    found = faults_of(job)
    assert found
    assert all(fault in place for place in found)


def test_the_slurm_script_is_bash() -> None:
    script = CHECKOUT / "docs/clusters/slurm.sh"
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert "--dashboard-host=127.0.0.1" in script.read_text()
    assert "RAY_AUTH_MODE=token" in script.read_text()


EVERY_JOB = """
import runpy, sys
from pathlib import Path

checkout, root = sys.argv[1:]
for job in sorted(Path("jobs").glob("*.py")):
    replicate = ["--study", "main", "--dataset", "generated"] if job.stem == "replicate" else ["--preset", "smoke"]
    sys.argv = [str(job), *replicate, "--dry-run", "--root", root]
    try:
        runpy.run_path(str(job), run_name="__main__")
    except SystemExit as ended:
        print("END", job.stem, ended.code or 0)
files = [str(getattr(module, "__file__", None)) for module in sys.modules.values()]
own = [file for file in files if file.startswith(checkout + "/") and not file.startswith(sys.prefix + "/")]
sys.exit(own or None)
"""
"""Plans every job from the working directory; fails where a module came from the checkout itself."""


def in_git(folder: str = ".") -> list[str]:
    """Files of this checkout that git knows."""
    listed = subprocess.run(["git", "ls-files", "-z", folder], cwd=CHECKOUT, capture_output=True, check=True).stdout
    return [name for name in listed.decode().split("\0") if name and (CHECKOUT / name).is_file()]


def uploaded(folder: Path) -> Path:
    """The package that `ray job submit --working-dir .` would upload, of what git has of this checkout."""
    from ray._private.runtime_env.packaging import create_package

    clean = folder / "clean"
    for name in in_git():
        (clean / name).parent.mkdir(parents=True, exist_ok=True)
        (clean / name).write_bytes((CHECKOUT / name).read_bytes())
    create_package(str(clean), folder / "package.zip", include_gitignore=True)
    return folder / "package.zip"


@pytest.mark.skipif(not (CHECKOUT / ".git").exists(), reason="no git checkout")
def test_jobs_upload_little_and_need_nothing_else(tmp_path: Path) -> None:
    package = uploaded(tmp_path)
    assert package.stat().st_size < MOST_UPLOADED
    unpacked = tmp_path / "unpacked"
    with zipfile.ZipFile(package) as archive:
        names = set(archive.namelist())
        archive.extractall(unpacked)
    needed = {path for folder in ("jobs", "raypref", "sweeps") for path in in_git(folder)}
    assert needed <= names
    assert not [name for name in names if name.startswith(("tests/", "docs/", ".git/", "results/"))]
    plan = [sys.executable, "-c", EVERY_JOB, str(CHECKOUT), str(tmp_path / "root")]
    only_it = environment(tmp_path) | {"PYTHONPATH": str(unpacked)}
    done = subprocess.run(plan, cwd=unpacked, env=only_it, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-2000:]
    ends = {line.split()[1]: line.split()[2] for line in done.stdout.splitlines() if line.startswith("END ")}
    assert ends == {Path(name).stem: "0" for name in in_git("jobs")}, done.stdout[-2000:] + done.stderr[-2000:]
    assert done.stdout.count("15 of 15 trials") >= 1


class Metadata(http.server.BaseHTTPRequestHandler):
    """A cloud's metadata server of our own."""

    leaving = False

    def do_PUT(self) -> None:
        self._say(200, "token")

    def do_GET(self) -> None:
        if self.path.endswith("preempted"):
            self._say(200, "TRUE" if Metadata.leaving else "FALSE")
        elif Metadata.leaving and self.headers["X-aws-ec2-metadata-token"] == "token":
            self._say(200, '{"action": "terminate"}')
        else:
            self._say(404, "")

    def _say(self, code: int, text: str) -> None:
        self.send_response(code)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing."""


@pytest.fixture
def metadata() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    Metadata.leaving = False


@pytest.mark.parametrize("cloud", ["AWS", "Google Cloud"])
def test_a_cloud_s_notice_is_heard(metadata: str, monkeypatch: pytest.MonkeyPatch, cloud: str) -> None:
    monkeypatch.setenv(spot.AWS[0], f"http://{metadata}" if cloud == "AWS" else "http://127.0.0.1:9")
    monkeypatch.setenv(spot.GOOGLE[0], metadata if cloud != "AWS" else "127.0.0.1:9")
    assert spot.noticed() is None
    Metadata.leaving = True
    assert str(spot.noticed()).startswith(cloud)


def test_sigterm_is_a_notice_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reaches the cluster, and the trainings on that node, once each."""
    drained: list[tuple[object, ...]] = []
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    own = SimpleNamespace(get_node_id=lambda: "node")
    monkeypatch.setattr(remote.ray, "get_runtime_context", lambda: own)
    leaving = remote.Notice()
    assert not leaving()
    monkeypatch.setattr(spot, "noticed", lambda: os.kill(os.getpid(), signal.SIGTERM))
    monkeypatch.setattr(spot, "own_node", lambda: ("node", "10.0.0.1:6379"))
    monkeypatch.setattr(spot, "drain", lambda *arguments: drained.append(arguments))
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert spot.watch_spot(spot.WatchSpot(every=0.01, deadline=20)) == 0
    finally:
        signal.signal(signal.SIGTERM, before)
    assert drained == [("node", "10.0.0.1:6379", "SIGTERM", 20)]
    assert [leaving(), leaving()] == [True, False]
