"""The hub's spawner of an embedded workbench: people's servers as local processes, through the launcher."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import httpx
from jupyterhub.spawner import Spawner
from jupyterhub.utils import maybe_future
from tornado import web
from traitlets import Any as AnyTrait
from traitlets import default

from labwright.api import names
from labwright.api.errors import LabwrightError, NotFound
from labwright.api.money import money
from labwright.api.usage import Ask, ReservationRequest, server_key
from labwright.hub.ledger_client import LedgerClient
from labwright.hub.settings import Settings
from labwright.hub.spawn_page import describe_refusal, describe_size, options_from_form, render_cards
from labwright.hub.untrusted import NoAnswer, ask_json
from labwright.spawner import listeners
from labwright.spawner.accounts import account_number
from labwright.spawner.launcher import Limits, Principal, Status
from labwright.spawner.local import LocalLauncher
from labwright.spawner.profiles import Choice, Profile, Workbench, billed_group, choose, profiles_for

RESERVED_SECONDS = 3600  # a hub may be away for so long before a running server counts as gone
RENEW_SECONDS = 60.0
READY_POLL_SECONDS = 0.03  # the hub itself backs off to seconds
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
MAX_PROCESSES = 2048
ACTIVITY_SECONDS = 5.0
WORKING_SHARE = 0.05  # of a core; a server and its kernels at rest take less than 0.02


class LabwrightSpawner(Spawner):  # type: ignore[misc]  # jupyterhub has no types
    """Starts a server of the chosen profile after its reservation, and gives it back when it ended.

    The server is the launcher's child: it outlives the hub, which finds it again by the launch id in its state.
    """

    settings = AnyTrait(help="The workbench's Settings.").tag(config=True)
    workbench = AnyTrait(help="Gives the Workbench as last read without errors.").tag(config=True)
    launch_id = ""
    profile_slug = ""
    _renewed = 0.0
    _worked = 0.0
    _measured: tuple[float, float] | None = None  # when, and the processor time until then

    @default("options_form")
    def _options_form(self) -> Any:
        return lambda spawner: spawner.render_form()

    @default("options_from_form")
    def _options_from_form(self) -> Any:
        return options_from_form

    @cached_property
    def launcher(self) -> LocalLauncher:
        settings: Settings = self.settings
        return LocalLauncher(settings.launcher_socket)

    @cached_property
    def ledger(self) -> LedgerClient:
        settings: Settings = self.settings
        token_file = settings.service_token_file("hub")
        return LedgerClient(settings.core_url, lambda: token_file.read_text().strip())

    @property
    def key(self) -> str:
        return server_key(self.user.name, self.name)

    @property
    def groups(self) -> list[str]:
        return [group.name for group in self.user.groups]

    def chosen(self) -> Choice:
        """The profile, looked up again here: `user_options` is whatever a client sent."""
        workbench: Workbench = self.workbench()
        return choose(self.user_options, workbench.profiles, self.groups)

    async def render_form(self) -> str:
        """The profile cards, with quota where core tells it."""
        workbench: Workbench = self.workbench()
        try:
            me = await self.ledger.person(self.user.name)
        except LabwrightError as error:
            self.log.warning("no quota for the spawn page: %s", error)
            me = None
        return render_cards(profiles_for(self.groups, workbench.profiles), me, workbench)

    def describe(self) -> str:
        """What runs, for the page of one's servers; empty when the profile has gone from the file."""
        workbench: Workbench = self.workbench()
        profile = workbench.profile(self.profile_slug)
        if profile is None:
            return ""
        price = money(profile.price_per_hour, workbench.currency)
        return f"{profile.name} · {describe_size(profile)} · {price}/h"

    async def start(self) -> str:
        try:
            choice = self.chosen()
            await self._reserve(choice)
        except LabwrightError as error:
            raise refusal(error, await self._what_fits(error)) from None
        self.profile_slug = choice.profile.slug
        try:
            return await self._launch(choice)
        except LabwrightError as error:
            await self._release()
            raise refusal(error, "") from None
        except BaseException:
            await self._release()
            raise

    async def _launch(self, choice: Choice) -> str:
        profile = choice.profile
        principal = Principal(self.user.name)
        home = await self.launcher.prepare(principal)
        self.ip, self.port = "127.0.0.1", free_port()
        self.notebook_dir = str(home)
        log_file = home / ".labwright" / f"server{'-' + self.name if self.name else ''}.log"
        launched = await self.launcher.launch(
            principal,
            [*self.cmd, *self.get_args()],
            env=self.get_env() | self.workbench_environment(choice),
            limits=limits_of(profile, self.workbench()),
            name="server",
            log=log_file,
        )
        self.launch_id = launched.id
        self._renewed = time.monotonic()
        self.log.info("%s: %s, limits by %s", self._log_name, profile.slug, launched.enforced)
        await self._wait_for_port(str(log_file))
        return f"http://{self.ip}:{self.port}"

    async def _wait_for_port(self, log_file: str) -> None:
        while True:
            if await self._listens():
                return
            status = await self.launcher.status(self.launch_id)
            if not status.running:
                message = f"The server ended before it was ready. {status.reason} See {log_file}."
                raise refusal(LabwrightError(message), "") from None
            await asyncio.sleep(READY_POLL_SECONDS)

    async def _listens(self) -> bool:
        """Whether the port is open, and is not somebody else's who took it first."""
        try:
            _, writer = await asyncio.open_connection(self.ip, self.port)
        except OSError:
            return False
        writer.close()
        return not self.settings.by_user or listeners.owner(self.port) in (None, account_number(self.user.name))

    def workbench_environment(self, choice: Choice) -> dict[str, str]:
        """What the server, and the kernels in it, find the services by. No secret but the server's own token."""
        settings: Settings = self.settings
        workbench: Workbench = self.workbench()
        threads = str(max(1, int(choice.profile.cpu)))
        return {
            "PATH": f"{settings.python('user').parent}:/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            **settings.person_environment(),
            names.PROFILE: choice.profile.slug,
            names.IDLE_SECONDS: str(idle_seconds(workbench, choice.profile.slug)),
            **dict.fromkeys(THREAD_VARIABLES, threads),
            **{f"LABWRIGHT_OPTION_{name.upper()}": value for name, value in choice.options.items()},
        }

    async def poll(self) -> int | None:
        if not self.launch_id:
            return 0
        try:
            status = await self.launcher.status(self.launch_id)
        except NotFound:
            return 1
        except LabwrightError:
            return None  # the launcher restarts; its processes live on
        if status.running and await self._is_idle(status):
            self.log.info("%s has been idle for too long and is stopped", self._log_name)
            status = await self.launcher.stop(self.launch_id)
        if status.running:
            await self._renew()
            return None
        self.log.info("%s ended: %s", self._log_name, status.reason)
        return status.exit_code or 0

    async def _is_idle(self, status: Status) -> bool:
        """Nobody used the server for the profile's idle time, no kernel is busy, and nothing computed meanwhile.

        The server itself is asked when it was last used: what passes through the proxy is also polled by open panels.
        """
        workbench: Workbench = self.workbench()
        now, seen = time.time(), self._measured
        if seen is None or status.cpu_seconds - seen[1] > WORKING_SHARE * (now - seen[0]):
            self._worked = now
        self._measured = (now, status.cpu_seconds)
        allowed = idle_seconds(workbench, self.profile_slug)
        if now - self._worked <= allowed:
            return False
        try:
            used = await self._last_used()
        except (NoAnswer, OSError, TimeoutError, ValueError, LookupError, TypeError) as error:
            self.log.warning("%s was not asked when it was last used: %r", self._log_name, error)
            reported = self.orm_spawner.last_activity or self.orm_spawner.started
            used = reported.replace(tzinfo=UTC).timestamp() if reported else now
        return time.time() - used > allowed

    async def _last_used(self) -> float:
        """When the server last worked for somebody, as Jupyter counts it; now, while it is busy."""
        address = f"{self.server.url.rstrip('/')}/labwright/activity"
        headers = {"Authorization": f"token {self.api_token}"}
        async with httpx.AsyncClient(trust_env=False, verify=False) as client:  # noqa: S501 - loopback, plain HTTP
            answer = await ask_json(client, address, headers, seconds=ACTIVITY_SECONDS)
        return time.time() if answer["busy"] else datetime.fromisoformat(answer["last_activity"]).timestamp()

    async def stop(self, now: bool = False) -> None:
        if not self.launch_id:
            return
        try:
            status: Status = await self.launcher.stop(self.launch_id, grace_seconds=0.0 if now else 10.0)
            self.log.info("%s stopped: %s", self._log_name, status.reason)
        except NotFound:
            pass

    def get_state(self) -> dict[str, Any]:
        state: dict[str, Any] = super().get_state()
        if self.launch_id:
            state |= {"launch_id": self.launch_id, "profile": self.profile_slug}
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self.launch_id = state.get("launch_id", "")
        self.profile_slug = state.get("profile", "")

    def clear_state(self) -> None:
        super().clear_state()
        self.launch_id = self.profile_slug = ""

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        yield {"progress": 20, "message": "Reserved. Starting your server …"}
        while not self.launch_id:  # noqa: ASYNC110 - it may also never come
            await asyncio.sleep(0.1)
        yield {"progress": 60, "message": "Your server is starting. Lab opens by itself."}

    async def run_post_stop_hook(self) -> None:
        """The server is gone, stopped or by itself: what it held is free again."""
        await self._release()
        if self.post_stop_hook is not None:
            await maybe_future(super().run_post_stop_hook())

    def _request(self, choice: Choice) -> ReservationRequest:
        profile = choice.profile
        ask = Ask(
            cpu=profile.cpu,
            memory_bytes=profile.memory_bytes,
            gpu=profile.gpu_count,
            price_per_hour=profile.price_per_hour,
        )
        return ReservationRequest(
            user=self.user.name,
            group=billed_group(profile, self.groups, self.workbench()),
            kind="server",
            key=self.key,
            ask=ask,
            ttl_seconds=RESERVED_SECONDS,
            profile=profile.slug,
        )

    async def _reserve(self, choice: Choice) -> None:
        await self.ledger.reserve(self._request(choice))

    async def _renew(self) -> None:
        if time.monotonic() - self._renewed < RENEW_SECONDS:
            return
        self._renewed = time.monotonic()
        try:
            await self.ledger.renew(self.key, RESERVED_SECONDS)
        except LabwrightError as error:
            self.log.warning("%s: its reservation was not renewed: %s", self._log_name, error)

    async def _release(self) -> None:
        try:
            await self.ledger.release(self.key)
        except LabwrightError as error:
            self.log.warning("%s: its reservation runs out by itself: %s", self._log_name, error)

    async def _what_fits(self, error: LabwrightError) -> str:
        """For a refused quota: the profiles that would start now."""
        try:
            return describe_refusal(error, await self.ledger.person(self.user.name))
        except LabwrightError:
            return ""


def refusal(error: LabwrightError, addition: str) -> web.HTTPError:
    """What the spawn page and the REST API show: a 4xx with the sentence, never a traceback."""
    text = " ".join(part for part in (error.sentence(), addition) if part)
    answer = web.HTTPError(error.status, log_message=text.replace("%", "%%"))
    vars(answer)["jupyterhub_message"] = text
    return answer


def limits_of(profile: Profile, workbench: Workbench) -> Limits:
    """What a server may use together with its kernels."""
    return Limits(profile.cpu, profile.memory_bytes, MAX_PROCESSES, workbench.visible_gpus(profile.gpu_count))


def idle_seconds(workbench: Workbench, slug: str) -> int:
    profile = workbench.profile(slug)
    return workbench.idle.gpu_seconds if profile and profile.gpu_count else workbench.idle.server_seconds


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
