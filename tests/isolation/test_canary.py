"""The workbench's secrets, looked for where they must not be: logs, databases, environments, processes, answers."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest
from workbench import RunningWorkbench, content_of, files_below

from labwright.hub.data.warehouse_files import Warehouse

from .conftest import Person

pytestmark = pytest.mark.uid
SERVICES = ("core", "data", "gateway", "hub", "people")


def secrets_of(workbench: RunningWorkbench) -> dict[str, str]:
    settings = workbench.settings
    warehouse = Warehouse(settings.warehouse_folder)
    found = {f"the token of {name}": settings.service_token_file(name).read_text().strip() for name in SERVICES}
    found["the proxy's token"] = (settings.hub_folder / "proxy.token").read_text().strip()
    found["the signing key"] = settings.signing_key_file.read_text().splitlines()[1]
    found["the reader's password"] = warehouse.reader_password.read_text().strip()
    found["the loader's password"] = warehouse.loader_password.read_text().strip()
    assert all(len(secret) >= 16 for secret in found.values())
    return found


def spellings(secret: str) -> set[bytes]:
    """Raw, URL-coded, in JSON, and in base64 at each of the three offsets at which it may stand in a longer text."""
    raw = secret.encode()
    coded = {base64.b64encode(b"." * offset + raw)[4 if offset else 0 : -4] for offset in range(3)}
    return {raw, quote(secret, safe="").encode(), json.dumps(secret)[1:-1].encode(), *coded}


def where_each_belongs(workbench: RunningWorkbench) -> set[Path]:
    settings = workbench.settings
    warehouse = Warehouse(settings.warehouse_folder)
    known = {settings.service_token_file(name) for name in SERVICES} | {settings.signing_key_file}
    known |= {settings.hub_folder / "proxy.token", settings.hub_folder / "service-tokens.json"}
    return known | {warehouse.reader_password, warehouse.loader_password}


@pytest.fixture(scope="module")
def answers(erin: Person, frank: Person) -> list[str]:
    """What the services say when they are asked for much and when they fail."""
    queries = [
        "SELECT nonsense FROM airlines",
        "SELECT 1 / 0 FROM airlines",
        "SELECT current_setting('data_directory'), * FROM airlines",
        "SELECT * FROM pg_authid",
        "SELECT * FROM pg_settings",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT * FROM pg_stat_activity",
        "COPY airlines TO PROGRAM 'env'",
        "SELECT * FROM duckdb_secrets()",
        "ATTACH 'x' AS y",
        "",
        "SELECT \x00",
    ]
    told = []
    for connection in ("warehouse", "lake", "nowhere"):
        for sql in queries:
            told.append(erin.data("POST", f"/connections/{connection}/query", json={"sql": sql}).text)
        for path in ("catalog", "columns", "tables/public/nothing", "tables/public/airlines/preview"):
            told.append(erin.data("GET", f"/connections/{connection}/{path}").text)
    for path in ("/connections", "/grants", "/audit?limit=1000", "/openapi.json"):
        told.append(erin.data("GET", path).text)
    for path in ("/me", "/profiles", "/usage", "/audit?limit=1000", "/openapi.json", "/jobs", "/runs"):
        told.append(erin.core("GET", path).text)
    told.append(frank.core("GET", f"/runs/{frank.owns['run_id']}/log").text)
    told.append(frank.core("GET", f"/runs/{frank.owns['run_id']}/notebook").text)
    told.append(frank.core("GET", f"/clusters/{frank.owns['id']}/address").text)
    told.append(erin.run_code("%env\nimport os\nprint(dict(os.environ))"))
    return told


def test_no_answer_holds_a_secret(workbench: RunningWorkbench, answers: list[str]) -> None:
    text = "\n".join(answers).encode()
    assert [name for name, secret in secrets_of(workbench).items() if any(s in text for s in spellings(secret))] == []


def test_no_file_but_its_own_holds_a_secret(workbench: RunningWorkbench, answers: list[str]) -> None:
    """Logs, databases with their journals, what people's homes hold, and the supervisor's files."""
    secrets = {name: spellings(secret) for name, secret in secrets_of(workbench).items()}
    home, own = workbench.settings.home, where_each_belongs(workbench)
    # PostgreSQL's own files hold SCRAM verifiers; a password in clear would be found in them too.
    found = []
    for path in files_below(home):
        content = b"" if path in own else content_of(path)
        found += [f"{name} in {path}" for name, words in secrets.items() if any(word in content for word in words)]
    assert found == []


def test_no_process_shows_a_secret(workbench: RunningWorkbench, answers: list[str]) -> None:
    """No command line at all; no environment; and in the memory of people's processes nothing either."""
    secrets = {name: spellings(secret) for name, secret in secrets_of(workbench).items()}
    people = {folder.stat().st_uid for folder in workbench.settings.homes.iterdir()}
    found, searched = [], 0
    for process in psutil.process_iter():
        folder = Path(f"/proc/{process.pid}")
        try:
            shown = folder.joinpath("cmdline").read_bytes() + folder.joinpath("environ").read_bytes()
            if process.uids().real in people:
                searched += 1
                shown += memory_of(process.pid)
        except (OSError, psutil.Error):
            continue  # it ended
        found += [f"{name} in {process.pid}" for name, words in secrets.items() if any(word in shown for word in words)]
    assert searched >= 2
    assert found == []


def memory_of(pid: int) -> bytes:
    """Heap and stack: where what a process was told lies."""
    parts = []
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            if line.endswith(("[heap]", "[stack]")):
                start, end = (int(part, 16) for part in line.split()[0].split("-"))
                try:
                    memory.seek(start)
                    parts.append(memory.read(end - start))
                except (OSError, ValueError):
                    continue
    return b"".join(parts)
