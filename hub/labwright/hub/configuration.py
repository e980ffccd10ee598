"""JupyterHub's configuration, as code that can be imported and tested.

`config/jupyterhub_config.py` calls `configure(c)`. The hub runs beside the proxy and the services, never above them:
its restart stops nothing.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from functools import partialmethod
from pathlib import Path
from typing import Any

from tornado.httpserver import HTTPServer

from labwright.api import names
from labwright.api.errors import InvalidRequest
from labwright.hub import hub_database
from labwright.hub.authentication import PeopleAuthenticator
from labwright.hub.local_spawner import LabwrightSpawner
from labwright.hub.programs import PERSONS_SERVER
from labwright.hub.settings import Settings, from_environment
from labwright.hub.spawn_page import options_from_form, render_cards
from labwright.spawner.profiles import Workbench, profiles_for
from labwright.spawner.workbench import WatchedWorkbench

log = logging.getLogger("labwright.hub")
DAY = 24 * 3600
TEMPLATES = Path(__file__).parent / "templates"
ADMIN_ROLES = {"cloud-admin", "ai-admin"}

SCOPE_DESCRIPTIONS = {
    names.SCOPE_JOBS: "Run and schedule notebooks",
    names.SCOPE_CLUSTERS: "Start and stop clusters",
    names.SCOPE_DATA: "Query connections",
    names.SCOPE_TRACKING: "Read and write experiments and models",
    names.SCOPE_USAGE: "See one's usage and quota",
    names.SCOPE_ADMIN: "Administer the workbench",
    names.SCOPE_LEDGER: "Reserve and release for anybody",
}
ACCESS = ("access:services!service=core", "access:services!service=data", "access:services!service=gateway")
# What a server's token may do: never SCOPE_ADMIN, whoever owns the server.
SERVER_SCOPES = ("users:activity!user", "access:servers!server", "read:users!user", *names.USER_SCOPES, *ACCESS)


def configure(c: Any, settings: Settings | None = None) -> None:
    """Fill in JupyterHub's configuration for this workbench."""
    settings = settings or from_environment()
    workbench = WatchedWorkbench(settings.workbench_file, lambda problem: log.error("%s", problem))
    _hub(c, settings)
    _proxy(c, settings)
    _pages(c)
    tokens = read_service_tokens(settings)
    c.JupyterHub.custom_scopes = {name: {"description": text} for name, text in SCOPE_DESCRIPTIONS.items()}
    c.JupyterHub.services = services(settings, tokens)
    c.JupyterHub.load_roles = roles(workbench())
    _authentication(c, settings)
    _spawner(c, settings, workbench)


def _hub(c: Any, settings: Settings) -> None:
    hub = c.JupyterHub
    hub.bind_url = settings.public_url
    hub.hub_bind_url = f"http://127.0.0.1:{settings.hub_port}"
    hub.db_url = f"sqlite:///{settings.hub_folder}/jupyterhub.sqlite"
    hub.db_kwargs = hub_database.OPTIONS
    hub.cookie_secret_file = str(settings.hub_folder / "cookie_secret")
    hub.upgrade_db = True
    if settings.by_user:
        # The launcher holds the port (`labwright.spawner.listeners`), and JupyterHub passes no such option on.
        HTTPServer.listen = partialmethod(HTTPServer.listen, reuse_port=True)  # type: ignore[method-assign, assignment]
    # Servers and the proxy outlive the hub.
    hub.cleanup_servers = False
    hub.cleanup_proxy = False
    hub.service_check_interval = 0  # the supervisor's work
    hub.last_activity_interval = 5  # it also gives a restarted proxy its routes back
    hub.init_spawners_timeout = 1
    hub.cookie_max_age_days = 1
    hub.oauth_token_expires_in = DAY
    hub.token_expires_in_max_seconds = 90 * DAY
    # The services' tokens are 32 random bytes: stretched, each of their requests would cost the loop 2 ms more.
    hub.trust_user_provided_tokens = True
    hub.concurrent_spawn_limit = 50
    # Who finds them taken: a start takes seconds, and JupyterHub's own 30 to 60 s left the hub idle meanwhile.
    hub.tornado_settings = {"spawn_throttle_retry_range": (3, 9)}
    hub.allow_named_servers = True
    hub.named_server_limit_per_user = 5
    hub.shutdown_on_logout = False


def _proxy(c: Any, settings: Settings) -> None:
    c.ConfigurableHTTPProxy.should_start = False
    c.ConfigurableHTTPProxy.api_url = f"http://127.0.0.1:{settings.proxy_api_port}"
    c.ConfigurableHTTPProxy.auth_token = (settings.hub_folder / "proxy.token").read_text().strip()


def _pages(c: Any) -> None:
    c.JupyterHub.template_paths = [str(TEMPLATES)]
    c.JupyterHub.logo_file = str(TEMPLATES / "logo.svg")
    c.JupyterHub.template_vars = {"labwright_css": (TEMPLATES / "labwright.css").read_text()}


def services(settings: Settings, tokens: Mapping[str, str]) -> list[dict[str, Any]]:
    """External services: the hub knows and routes them, and neither starts nor stops them."""
    browser = ["read:users!user", "delete:servers", *names.USER_SCOPES, names.SCOPE_ADMIN, *ACCESS]
    # `timeout`: the hub waits that long for each at its start, and needs none of them.
    return [
        {
            "name": "core",
            "url": f"http://127.0.0.1:{settings.core_port}",
            "api_token": tokens["core"],
            # The admin's page logs in through the hub; only this browser token may carry SCOPE_ADMIN.
            "oauth_client_allowed_scopes": browser,
            "oauth_no_confirm": True,
            "display": False,
            "timeout": 0,
        },
        {
            "name": "data",
            "url": f"http://127.0.0.1:{settings.data_port}",
            "api_token": tokens["data"],
            "display": False,
            "timeout": 0,
        },
        {"name": "gateway", "api_token": tokens["gateway"], "display": False},
        {"name": "hub", "api_token": tokens["hub"], "display": False},
        {"name": "people", "api_token": tokens["people"], "display": False},
    ]


def roles(workbench: Workbench) -> list[dict[str, Any]]:
    """Who may do what. Rights come from groups; a service's token has only what it needs."""
    admin_groups = sorted(name for name, given in workbench.groups.items() if ADMIN_ROLES & set(given))
    lookup = ["read:users", "list:users", "read:groups"]
    return [
        {"name": "user", "scopes": ["self", *names.USER_SCOPES, *ACCESS]},
        {"name": "server", "scopes": list(SERVER_SCOPES)},
        {
            "name": "labwright-admin",
            "scopes": [names.SCOPE_ADMIN, "admin-ui", "delete:servers"],
            "groups": admin_groups,
        },
        {"name": "labwright-core", "scopes": [*lookup, "read:servers", "read:hub"], "services": ["core"]},
        {"name": "labwright-data", "scopes": ["read:users"], "services": ["data"]},
        {"name": "labwright-gateway", "scopes": ["read:users"], "services": ["gateway"]},
        {"name": "labwright-hub", "scopes": [names.SCOPE_LEDGER, ACCESS[0]], "services": ["hub"]},
        {"name": "labwright-people", "scopes": ["admin:users", "delete:servers", "read:hub"], "services": ["people"]},
    ]


def read_service_tokens(settings: Settings) -> dict[str, str]:
    """The tokens of all services. The hub keeps a copy of its own: data's file cannot be read by its user."""
    tokens: dict[str, str] = json.loads((settings.hub_folder / "service-tokens.json").read_text())
    return tokens


def _authentication(c: Any, settings: Settings) -> None:
    """The embedded login; `config/jupyterhub_config.py`, read afterwards, may name another."""
    c.Authenticator.manage_groups = True
    c.Authenticator.allow_all = True  # everybody whom the authenticator knows
    c.Authenticator.delete_invalid_users = False
    c.JupyterHub.authenticator_class = PeopleAuthenticator
    c.PeopleAuthenticator.people_file = str(settings.hub_folder / "people.json")
    c.PeopleAuthenticator.one_person = not settings.by_user


def _spawner(c: Any, settings: Settings, workbench: WatchedWorkbench) -> None:
    c.Spawner.server_token_scopes = list(SERVER_SCOPES)
    c.Spawner.default_url = "/lab"
    c.Spawner.http_timeout = 60
    c.Spawner.poll_interval = 10
    c.Spawner.poll_jitter = 0
    c.Spawner.consecutive_failure_limit = 0  # a refused server is no reason for the hub to exit
    match settings.spawner:
        case "local":
            _local_servers(c, settings, workbench)
        case "kubernetes":
            _pods(c, workbench)
        case other:
            raise InvalidRequest(
                f"There is no spawner '{other}'.", remedy="Set LABWRIGHT_SPAWNER to 'local' or 'kubernetes'."
            )


def _local_servers(c: Any, settings: Settings, workbench: WatchedWorkbench) -> None:
    c.JupyterHub.spawner_class = LabwrightSpawner
    c.LabwrightSpawner.settings = settings
    c.LabwrightSpawner.workbench = workbench
    c.Spawner.cmd = [str(settings.python("user")), "-m", PERSONS_SERVER]
    c.Spawner.env_keep = []
    c.Spawner.start_timeout = 60


def _pods(c: Any, workbench: WatchedWorkbench) -> None:
    """People's servers in the hub's own namespace; images, homes and the like: `c.KubernetesSpawner.deployment`."""
    from labwright.spawner.kube import KubernetesSpawner  # its client is 60 MB that a local hub does without

    def cards(spawner: Any) -> str:
        now = workbench()
        return render_cards(profiles_for([group.name for group in spawner.user.groups], now.profiles), None, now)

    c.JupyterHub.spawner_class = KubernetesSpawner
    c.KubernetesSpawner.workbench = workbench
    c.KubernetesSpawner.options_form = cards
    c.KubernetesSpawner.options_from_form = options_from_form
    c.Spawner.cmd = ["jupyterhub-singleuser"]
    c.Spawner.start_timeout = 300  # a node that has to be started, and an image that it has to get
    # Each server costs the loop 2 ms at each of these, 480 of them a quarter of its time at the local 5 s.
    c.JupyterHub.last_activity_interval = 60
    # How long a start's request waits before it says 'under way': what fails sooner is answered with its reason.
    c.JupyterHub.tornado_settings["slow_spawn_timeout"] = 3
    # Starts that wait for a GPU or a node count as well, for minutes, and cost the hub next to nothing.
    c.JupyterHub.concurrent_spawn_limit = 400
