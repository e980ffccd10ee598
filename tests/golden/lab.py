"""JupyterLab as a person uses it: cells, panels, files. Waits on what is seen, never on time."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urljoin

from playwright.sync_api import Locator, Page, expect

from tests.golden.steps import wait_until


class Lab:
    """One open JupyterLab."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def wait_until_ready(self, *, seconds: float = 90) -> None:
        self.page.locator("#jp-main-dock-panel").wait_for(timeout=seconds * 1000)
        self.page.locator("#jupyterlab-splash").wait_for(state="detached", timeout=seconds * 1000)

    def reset(self) -> None:
        """Show the launcher when an earlier visit left another layout behind."""
        if not self.card("Welcome notebook").is_visible():
            self.page.goto(self.page.url.split("?")[0] + "?reset")
            self.wait_until_ready()

    def card(self, name: str) -> Locator:
        """A card of the launcher's Labwright section."""
        return self.page.locator(".jp-LauncherCard").filter(has_text=name).first

    def open_panel(self, name: str) -> Locator:
        """Show a side panel and return it."""
        panel = self.page.locator(f"#labwright-{name.lower()}")
        if not panel.is_visible():
            self.page.locator(f".jp-SideBar .lm-TabBar-tab[data-id='labwright-{name.lower()}']").click()
        panel.wait_for()
        return panel

    def upload(self, file: Path) -> None:
        """Put a file into the home, which the file browser shows."""
        browser = self.page.locator("#filebrowser")
        if not browser.is_visible():
            self.page.locator(".jp-SideBar .lm-TabBar-tab[data-id='filebrowser']").click()
        with self.page.expect_file_chooser() as chooser:
            browser.locator("[data-jp-item-name='uploader'] jp-button").click()
        # Lab asks only after it has read the folder anew: what the list shows by now may be older.
        base = self.page.evaluate("JSON.parse(document.getElementById('jupyter-config-data').textContent).baseUrl")
        known = self.page.request.get(urljoin(self.page.url, f"{base}api/contents/{file.name}?content=0")).ok
        chooser.value.set_files(file)
        if known:
            self.page.locator(".jp-Dialog .jp-mod-accept").click()
            self.page.locator(".jp-Dialog").wait_for(state="detached")
        self.file(file.name).wait_for()

    def file(self, name: str) -> Locator:
        return self.page.locator(".jp-DirListing-item").filter(has_text=name).first

    def open_file(self, name: str) -> None:
        self.file(name).dblclick()
        self.notebook.locator(".jp-Cell").first.wait_for()
        self.wait_for_kernel()

    @property
    def notebook(self) -> Locator:
        return self.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)").first

    def wait_for_kernel(self, *, seconds: float = 60) -> None:
        """Until the kernel of the notebook in front is idle."""
        # The notebook's own indicator says idle before there is a kernel; the status bar does not.
        status = self.page.locator("#jp-main-statusbar").get_by_text(re.compile(r"Python 3.*\| Idle"))
        expect(status.first).to_be_visible(timeout=seconds * 1000)

    def run_cell(self, source: str, *, seconds: float = 90) -> str:
        """Add a cell at the end, run it, wait for its end; returns the text of its output."""
        self.notebook.locator(".jp-Cell").last.locator(".jp-InputPrompt, .jp-MarkdownOutput").first.click()
        self.page.keyboard.press("Escape")
        before = self.notebook.locator(".jp-Cell").count()
        self.page.keyboard.press("b")
        wait_until(lambda: self.notebook.locator(".jp-Cell").count() > before, "a new cell")
        self.page.keyboard.press("Enter")
        self.page.keyboard.insert_text(source)
        self.page.keyboard.press("Control+Enter")
        return self.wait_for_cell(self.notebook.locator(".jp-CodeCell").last, seconds=seconds)

    def wait_for_cell(self, cell: Locator, *, seconds: float = 90) -> str:
        """Wait until a cell has run, and return its output's text; fails when it raised."""
        prompt = cell.locator(".jp-InputPrompt")
        wait_until(lambda: prompt.inner_text().strip("[]: ").isdigit(), "the cell's end", seconds=seconds)
        failed = cell.locator(
            "[data-mime-type='application/vnd.jupyter.error'], [data-mime-type='application/vnd.jupyter.stderr']"
        )
        text = cell.locator(".jp-OutputArea-output").all_inner_texts()
        assert failed.count() == 0, "\n".join(text)
        return "\n".join(text)

    def run_all(self, *, seconds: float = 180) -> None:
        """Run every cell of the notebook in front and wait for the last one."""
        last = self.notebook.locator(".jp-CodeCell").last
        last.scroll_into_view_if_needed()
        prompt = last.locator(".jp-InputPrompt")
        earlier = prompt.inner_text()  # of a run before this one
        self.page.get_by_role("menuitem", name="Run", exact=True).click()
        self.page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        errors = self.notebook.locator("[data-mime-type='application/vnd.jupyter.error']")

        def ended() -> bool:
            now = prompt.inner_text()
            return errors.count() > 0 or (now != earlier and now.strip("[]: ").isdigit())

        wait_until(ended, "the notebook's end", seconds=seconds)
        assert errors.count() == 0, errors.first.inner_text()
