"""A real Lab in front of the stand-in for core and data, a browser that shows it, and what tests do there."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import nbformat
import pytest
from playwright.sync_api import Page, expect, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
LAB = ROOT / ".envs" / "user" / "bin" / "jupyter"
CHROMIUM = shutil.which("chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
BUILT = ROOT / "extensions" / "lab" / "labwright_lab" / "package.json"

NEEDS_LAB = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium"),
    pytest.mark.skipif(not LAB.exists() or not BUILT.exists(), reason="`make lab` has not been run"),
]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and process.poll() is None:
        try:
            httpx.get(url, trust_env=False)
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError(f"{url} did not come up")


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def lab(home: Path) -> Iterator[tuple[str, str]]:
    """The addresses of Lab and of the stand-in behind it."""
    services, own = free_port(), free_port()
    behind = f"http://127.0.0.1:{services}"
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "LABWRIGHT_CORE_URL": f"{behind}/services/core",
        "LABWRIGHT_DATA_URL": f"{behind}/services/data",
        "LABWRIGHT_TOKEN": "stand-in",
        "LABWRIGHT_PROFILE": "small",
        "XDG_RUNTIME_DIR": str(home),
    }
    stand_in = subprocess.Popen(
        [str(ROOT / ".venv" / "bin" / "python"), "-m", "tests.lab.stand_in", str(services)], cwd=ROOT
    )
    arguments = [f"--port={own}", "--IdentityProvider.token=t", f"--ServerApp.root_dir={home}", "--allow-root"]
    server = subprocess.Popen(
        [str(LAB), "lab", "--no-browser", "--ServerApp.ip=127.0.0.1", *arguments],
        env=env,
        cwd=home,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(f"{behind}/services/core/api/v1/me", stand_in)
        wait_for(f"http://127.0.0.1:{own}/api", server)
        yield f"http://127.0.0.1:{own}/lab?reset&token=t", behind
    finally:
        for process in (server, stand_in):
            process.terminate()
            process.wait(60)
        for pid in home.glob("labwright/kernels-*/pid"):
            os.kill(int(pid.read_text()), signal.SIGTERM)


@pytest.fixture
def page(lab: tuple[str, str]) -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.set_default_timeout(30_000)
        expect.set_options(timeout=30_000)
        page.goto(lab[0])
        page.wait_for_selector(".jp-Launcher", timeout=60_000)
        yield page
        browser.close()


@pytest.fixture
def blank(page: Page) -> Page:
    """A page before it goes to Lab, with nothing of another visit."""
    page.goto("about:blank")
    return page


@pytest.fixture
def notebook(lab: tuple[str, str], home: Path) -> str:
    """The name of a notebook in the folder that Lab shows."""
    cells = [nbformat.v4.new_code_cell(source) for source in ("answer = 42", "answer")]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), home / "answer.ipynb")
    return "answer.ipynb"


def card(page: Page, name: str) -> None:
    page.click(f".jp-LauncherCard:has-text('{name}')")


def side_panel(page: Page, name: str) -> None:
    page.locator(f".lm-TabBar-tab[data-id='labwright-{name}']").click()


def look_into_columns(page: Page) -> None:
    """Open the columns of a table and what is in two of them, by keyboard."""
    page.click(".lw-row-label:text-is('warehouse')")
    page.get_by_role("treeitem", name="flights").press("ArrowRight")
    page.get_by_role("treeitem", name="carrier").press("ArrowRight")
    expect(page.locator(".lw-common li")).to_have_count(6)
    page.get_by_role("treeitem", name="arr_delay").press("Enter")
    expect(page.get_by_role("img", name="Histogram from -86 to 1272")).to_be_visible()
    expect(page.locator(".lw-profile-view").last).to_contain_text("9 430 null (2.8 %) · 577 values · mean 6.895")


def compare_all(page: Page) -> None:
    """Open the comparison of all runs of an experiment."""
    page.click(".lw-run-name:text-is('late-flights')")
    boxes = page.locator(".lw-mod-runs tbody input")
    expect(boxes).to_have_count(4)
    for box in boxes.all():
        box.check()
    page.get_by_role("button", name="Compare 4 runs").click()
    expect(page.locator(".lw-curves canvas, .lw-bars").first).to_be_visible()


def visit(page: Page, address: str) -> None:
    """Go there, and wait until Lab is done with its layout: until then it takes the focus from whoever has it."""
    with page.expect_response(lambda answer: answer.request.method == "PUT" and "/workspaces/" in answer.url):
        page.goto(address)
