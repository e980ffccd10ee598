"""The hub of the tests: everybody with the password may log in, and profiles come from workbench.yaml."""

import logging
import os
from pathlib import Path

from jupyterhub.auth import DummyAuthenticator

from labwright.hub.configuration import TEMPLATES
from labwright.hub.spawn_page import options_from_form, render_cards
from labwright.spawner.kube import KubernetesSpawner
from labwright.spawner.manifests import Deployment
from labwright.spawner.profiles import profiles_for
from labwright.spawner.workbench import WatchedWorkbench

log = logging.getLogger("labwright.hub")
c = get_config()  # noqa: F821 - JupyterHub puts it here
NAMESPACE = os.environ["POD_NAMESPACE"]
WORKBENCH = Path("/etc/labwright/workbench.yaml")


class GroupsByName(DummyAuthenticator):
    """`research-ada` is of the group research."""

    async def authenticate(self, handler, data):
        name = await super().authenticate(handler, data)
        if name is None:
            return None
        group, dash, _rest = name.partition("-")
        return {"name": name, "groups": [group] if dash else []}


def profile_cards(spawner):
    workbench = spawner.workbench()
    groups = [group.name for group in spawner.user.groups]
    return render_cards(profiles_for(groups, workbench.profiles), None, workbench)


c.JupyterHub.bind_url = "http://:8000"
c.JupyterHub.hub_bind_url = "http://0.0.0.0:8081"
c.JupyterHub.hub_connect_url = f"http://hub.{NAMESPACE}.svc.cluster.local:8081"
c.JupyterHub.db_url = "sqlite:////srv/labwright/jupyterhub.sqlite"
c.JupyterHub.cookie_secret_file = "/srv/labwright/cookie_secret"
c.JupyterHub.cleanup_servers = False
c.JupyterHub.cleanup_proxy = False
c.JupyterHub.template_paths = [str(TEMPLATES)]
c.JupyterHub.template_vars = {"labwright_css": (TEMPLATES / "labwright.css").read_text()}
c.JupyterHub.allow_named_servers = True
c.JupyterHub.concurrent_spawn_limit = 100
c.JupyterHub.last_activity_interval = 60
# How long a POST waits for a spawn before it says 202: what fails sooner is answered with its reason.
c.JupyterHub.tornado_settings = {"slow_spawn_timeout": 3}
c.ConfigurableHTTPProxy.should_start = False
c.ConfigurableHTTPProxy.api_url = f"http://proxy-api.{NAMESPACE}.svc.cluster.local:8001"
c.JupyterHub.proxy_check_interval = 5

c.JupyterHub.authenticator_class = GroupsByName
c.GroupsByName.password = os.environ["TESTS_TOKEN"]
c.Authenticator.allow_all = True
c.Authenticator.manage_groups = True
c.JupyterHub.services = [{"name": "tests", "api_token": os.environ["TESTS_TOKEN"]}]
c.JupyterHub.load_roles = [
    {
        "name": "tests",
        "services": ["tests"],
        "scopes": ["admin:users", "admin:servers", "access:servers", "read:hub", "groups", "admin:groups"],
    }
]

c.JupyterHub.spawner_class = KubernetesSpawner
c.KubernetesSpawner.workbench = WatchedWorkbench(WORKBENCH, lambda problem: log.error("%s", problem))
c.KubernetesSpawner.deployment = Deployment(
    images={"user": os.environ["USER_IMAGE"], "gpu": os.environ["USER_GPU_IMAGE"]},
    home_bytes=2**30,
    cpu_request_share=0.05,
)
c.KubernetesSpawner.namespace = NAMESPACE
c.KubernetesSpawner.options_form = profile_cards
c.KubernetesSpawner.options_from_form = options_from_form
c.Spawner.cmd = ["jupyterhub-singleuser"]
c.Spawner.default_url = "/lab"
c.Spawner.start_timeout = int(os.environ["START_TIMEOUT"])
c.Spawner.http_timeout = 90
c.Spawner.poll_interval = 10
c.Spawner.poll_jitter = 0
c.Spawner.consecutive_failure_limit = 0
