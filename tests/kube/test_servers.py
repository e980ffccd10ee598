"""People's servers as real pods: started by a form, held to their profile, and told of when they fail."""

from __future__ import annotations

import time

import pytest

from tests.kube.deployment import Deployment, restart_hub
from tests.kube.kubectl import Kubectl, wait_for
from tests.kube.person import Person, pod_of

pytestmark = pytest.mark.kube
MEMORY = 1536 * 2**20
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


def start_small(person: Person) -> None:
    person.log_in()
    answer = person.spawn({"profile": "small"})
    assert answer.status_code in (201, 202), answer.text
    person.wait_until_ready()
    person.server("GET", "/lab")  # the server's own login, by the hub's OAuth


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


def test_servers_and_kernels_outlive_the_hub(person: Person, workbench: Deployment, kubectl: Kubectl) -> None:
    start_small(person)
    kernel = person.start_kernel()
    person.run(kernel, "kept = 'in memory'")
    pod = kubectl.get("pod", pod_of(kubectl, person))
    restart_hub(workbench)
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
