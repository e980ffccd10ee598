"""People's servers as real pods: started by a form, held to their profile, and told of when they fail."""

from __future__ import annotations

import time

import pytest

from tests.kube import kubectl as cluster
from tests.kube.deployment import Deployment, restart_hub
from tests.kube.kubectl import Kubectl, wait_for
from tests.kube.person import Person

pytestmark = pytest.mark.kube
MEMORY = 1536 * 2**20
GPU = "nvidia.com/gpu"
EAT = "held = []\nwhile True:\n    held.append(bytearray(b'x') * (64 << 20))"
SERVER_THAT_EATS = """
import pathlib, threading, time
def eat():
    while not pathlib.Path('/tmp/eat').exists():
        time.sleep(0.1)
    held = []
    while True:
        held.append(bytearray(b'x') * (64 << 20))
threading.Thread(target=eat, daemon=True).start()
"""
KEEP_SETTINGS = """
from pathlib import Path
folder = Path.home() / '.jupyter'
folder.mkdir(exist_ok=True)
(folder / 'jupyter_server_config.py').write_text({text!r})
"""
LIMITS = """
from pathlib import Path
root = Path('/sys/fs/cgroup')
if (root / 'cgroup.controllers').exists():
    quota, period = (root / 'cpu.max').read_text().split()
    memory = (root / 'memory.max').read_text()
else:
    quota = (root / 'cpu' / 'cpu.cfs_quota_us').read_text()
    period = (root / 'cpu' / 'cpu.cfs_period_us').read_text()
    memory = (root / 'memory' / 'memory.limit_in_bytes').read_text()
print(int(quota) / int(period), int(memory))
"""


def pod_of(kubectl: Kubectl, person: Person) -> str:
    pods = kubectl.list("pods", f"component=singleuser-server,hub.jupyter.org/username={person.name}")
    assert pods, f"{person.name} has no pod"
    name: str = pods[0]["metadata"]["name"]
    return name


def start_small(person: Person) -> None:
    person.log_in()
    answer = person.spawn({"profile": "small"})
    assert answer.status_code in (201, 202), answer.text
    person.wait_until_ready()
    person.server("GET", "/lab")  # the server's own login, by the hub's OAuth


def failure_of(
    workbench: Deployment, person: Person, options: dict[str, object], seconds: float = 30
) -> tuple[str, float]:
    """What a spawn that fails says, and after how many seconds."""
    person.ensure_known()
    started = time.monotonic()
    answer = person.spawn(options)
    if answer.status_code >= 400:
        return answer.json()["message"], time.monotonic() - started
    events = person.progress(seconds, hub_url=workbench.hub_url)
    assert events, answer.text
    return events[-1]["message"], time.monotonic() - started


def test_a_person_logs_in_sees_the_cards_and_runs_a_cell_in_a_pod(person: Person, kubectl: Kubectl) -> None:
    person.log_in()
    page = person.spawn_page()
    assert "lw-card" in page
    assert "Small" in page
    assert "Research" not in page  # of another group
    started = time.monotonic()
    answer = person.spawn_by_form(profile="small")
    assert answer.status_code == 200, answer.text
    person.wait_until_ready()
    ready_seconds = time.monotonic() - started
    lab = person.server("GET", "/lab")
    assert lab.status_code == 200
    assert "jupyter-config-data" in lab.text
    assert "@labwright/lab" in lab.text  # our extension is in the image
    outcome = person.run(person.start_kernel(), "import sys; print(6 * 7, sys.prefix)")
    assert outcome.text.split() == ["42", "/opt/labwright"]
    pod = kubectl.get("pod", pod_of(kubectl, person))
    assert pod is not None
    assert pod["spec"]["containers"][0]["image"].endswith("/user:test")
    print(f"\nfrom the form to a server that is ready: {ready_seconds:.1f} s")


def test_the_limits_inside_the_pod_are_the_profiles(person: Person, kubectl: Kubectl) -> None:
    start_small(person)
    processors, memory = person.run(person.start_kernel(), LIMITS).text.split()
    assert float(processors) == 1.0
    assert 0 <= MEMORY - int(memory) < 4096  # the kernel counts in pages
    pod = kubectl.get("pod", pod_of(kubectl, person))
    assert pod is not None
    spec, container = pod["spec"], pod["spec"]["containers"][0]
    assert container["resources"]["limits"] == {"cpu": "1", "memory": str(MEMORY)} or container["resources"]["limits"][
        "memory"
    ] in (str(MEMORY), "1536M")
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    listing = kubectl.run_in(pod["metadata"]["name"], "sh", "-c", "id -u; ls /var/run/secrets 2>/dev/null | wc -l")
    assert listing.split() == ["1000", "0"]


def test_the_home_outlives_the_server(person: Person) -> None:
    start_small(person)
    person.run(person.start_kernel(), "open('kept.txt', 'w').write('kept')")
    person.stop()
    start_small(person)
    assert person.run(person.start_kernel(), "print(open('kept.txt').read())").text == "kept\n"


def test_a_cell_that_takes_too_much_memory_is_killed_and_says_so_below_itself(person: Person) -> None:
    start_small(person)
    outcome = person.run(person.start_kernel(), EAT, 120)
    assert outcome.died
    assert "needed more memory than this server has of 1.5 GiB" in outcome.text
    assert person.run(person.start_kernel(), "print('alive')").text == "alive\n"


def test_a_server_that_was_killed_for_memory_is_explained_on_its_owners_next_page(person: Person) -> None:
    start_small(person)
    # The machine kills the largest process of a pod; this makes it the server and not a kernel.
    assert person.run(person.start_kernel(), KEEP_SETTINGS.format(text=SERVER_THAT_EATS)).error == ""
    person.stop()
    start_small(person)
    person.run(person.start_kernel(), "open('/tmp/eat', 'w').close()")
    wait_for("the hub to notice", lambda: "" not in person.servers(), 60)
    page = person.spawn_page()
    assert "Your server was killed because it used more memory than its profile has. It may use 1.5 GiB." in page


def test_a_gpu_is_asked_for_and_waited_for(person: Person, workbench: Deployment, kubectl: Kubectl) -> None:
    node = next(
        n["metadata"]["name"]
        for n in kubectl.list("nodes")
        if "kwok.x-k8s.io/node" not in n["metadata"].get("annotations", {})
    )
    cluster.patch_extended_resource(node, GPU, 1)
    other = Person(f"{person.name}-b", workbench.url, workbench.token)
    try:
        start_with_gpu(person)
        pod = kubectl.get("pod", pod_of(kubectl, person))
        assert pod is not None
        assert pod["spec"]["containers"][0]["resources"]["limits"][GPU] == "1"
        assert pod["spec"]["containers"][0]["image"].endswith("/user-gpu:test")
        other.ensure_known()
        started = time.monotonic()
        assert other.spawn({"profile": "gpu"}).status_code == 202
        messages = other.progress(20, until="Waiting for a GPU", hub_url=workbench.hub_url)
        assert "Waiting for a GPU: what the cluster has is in use" in messages[-1]["message"], messages
        assert time.monotonic() - started < 10
        person.stop()
        other.wait_until_ready()  # the one that waited gets what came free
    finally:
        other.stop()
        other.close()
        cluster.patch_extended_resource(node, GPU, None)


def start_with_gpu(person: Person) -> None:
    person.ensure_known()
    assert person.spawn({"profile": "gpu"}).status_code in (201, 202)
    person.wait_until_ready()


def test_a_gpu_that_no_node_has_is_refused_with_the_reason(person: Person, workbench: Deployment) -> None:
    message, seconds = failure_of(workbench, person, {"profile": "gpu"})
    assert "No node is large enough: this profile asks for 1 GPU, and the largest node has 0 GPUs." in message
    assert seconds < 10


@pytest.mark.parametrize(
    ("profile", "reason"),
    [
        ("huge", "No node is large enough: this profile asks for"),
        ("absent", "cannot be pulled"),
        ("elsewhere", "No node has what this profile asks for (labwright/pool=moon)."),
    ],
)
def test_a_start_that_cannot_succeed_says_why_within_ten_seconds(
    person: Person, workbench: Deployment, profile: str, reason: str
) -> None:
    message, seconds = failure_of(workbench, person, {"profile": profile})
    assert reason in message
    assert seconds < 10
    print(f"\n{profile}: after {seconds:.1f} s: {message}")


def test_a_full_quota_is_told(person: Person, workbench: Deployment, kubectl: Kubectl) -> None:
    kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "tight"},
            "spec": {"hard": {"limits.memory": "2G"}},
        }
    )
    try:
        wait_for(
            "the quota's count", lambda: (kubectl.get("resourcequota", "tight") or {}).get("status", {}).get("used"), 30
        )
        message, seconds = failure_of(workbench, person, {"profile": "small"})
        assert "quota has no room for your server" in message
        assert seconds < 10
    finally:
        kubectl.delete("resourcequota", "tight")


TAMPERED = [
    ({"profile": "small", "image": "evil:latest"}, "image"),
    ({"profile": "small", "cpu_limit": 64, "mem_limit": "1T"}, "cpu_limit"),
    ({"profile": "nothing-like-it"}, "no profile"),
    ({"profile": "research"}, "no profile"),
    ({"profile": "small", "options": {"image": "evil"}}, "image"),
    ({"profile": {"$ne": 1}}, "no profile"),
]


@pytest.mark.parametrize(("options", "word"), TAMPERED)
def test_a_tampered_request_is_refused(
    person: Person, workbench: Deployment, options: dict[str, object], word: str, kubectl: Kubectl
) -> None:
    message, _seconds = failure_of(workbench, person, options)
    assert word in message
    assert not kubectl.list("pods", f"hub.jupyter.org/username={person.name}")


def test_a_missing_profile_is_recomputed_and_not_skipped(person: Person, kubectl: Kubectl) -> None:
    person.ensure_known()
    assert person.spawn({}).status_code in (201, 202)
    person.wait_until_ready()
    pod = kubectl.get("pod", pod_of(kubectl, person))
    assert pod is not None
    assert pod["metadata"]["labels"]["labwright/profile"] == "small"


def test_servers_and_kernels_outlive_the_hub(person: Person, kubectl: Kubectl) -> None:
    start_small(person)
    kernel = person.start_kernel()
    person.run(kernel, "kept = 'in memory'")
    pod = kubectl.get("pod", pod_of(kubectl, person))
    restart_hub(kubectl)
    after = kubectl.get("pod", pod_of(kubectl, person))
    assert pod is not None
    assert after is not None
    assert after["metadata"]["uid"] == pod["metadata"]["uid"]
    assert person.run(kernel, "print(kept)").text == "in memory\n"
    wait_for("the hub to find the server", lambda: person.servers().get("", {}).get("ready"), 30)


def test_another_person_cannot_reach_the_pod(person: Person, workbench: Deployment) -> None:
    start_small(person)
    stranger = Person("stranger", workbench.url, workbench.token)
    try:
        stranger.log_in()
        for path in ("/api/kernels", "/api/contents"):
            answer = stranger.http.get(f"/user/{person.name}{path}", follow_redirects=False)
            assert answer.status_code in (302, 403, 404), (path, answer.status_code)
        page = stranger.http.get(f"/user/{person.name}/lab")
        assert "jupyter-config-data" not in page.text
        assert page.status_code in (403, 404)
    finally:
        stranger.close()
