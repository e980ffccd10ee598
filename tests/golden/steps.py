"""Walk a browser through steps: time each, take its picture, and say where it stopped."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class NoBrowser(Exception):
    """Nothing to walk with; the message says what to do."""


class StepFailed(AssertionError):
    """A step of the walk did not end as it should."""


@dataclass
class Walk:
    """One person's way through the workbench in a browser."""

    page: Page
    pictures: Path
    say: Callable[[str], None] = print
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Time what stands inside, then take a picture named after the step (also when it fails)."""
        number = len(self.seconds) + 1
        name = f"{number:02d}-{re.sub(r'[^a-z0-9]+', '-', title.lower()).strip('-')}"
        started = time.perf_counter()
        try:
            yield
        except Exception as error:
            self.page.screenshot(path=self.pictures / f"{name}-FAILED.png")
            self.say(f"{number:2d}. {title}: FAILED after {time.perf_counter() - started:.1f} s")
            raise StepFailed(f"step {number}, {title}: {error}") from error
        self.seconds[title] = time.perf_counter() - started
        self.page.screenshot(path=self.pictures / f"{name}.png")
        self.say(f"{number:2d}. {title}: {self.seconds[title]:.1f} s")


@contextmanager
def chromium(*, dark: bool = False) -> Iterator[BrowserContext]:
    """A fresh headless browser with an empty profile."""
    program = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if program is None:
        raise NoBrowser("There is no Chromium here. Install it ('apt-get install chromium') and walk again.")
    with sync_playwright() as playwright:
        browser: Browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        context = browser.new_context(
            viewport={"width": 1440, "height": 900}, color_scheme="dark" if dark else "light", accept_downloads=True
        )
        context.set_default_timeout(30_000)
        try:
            yield context
        finally:
            context.close()
            browser.close()


def wait_until(condition: Callable[[], object], what: str, *, seconds: float = 30.0) -> None:
    """Return once `condition()` is true; fail with `what` after the deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.1)
