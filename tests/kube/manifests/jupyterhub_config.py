"""The hub of the tests: the product's configuration, but everybody with the password may log in."""

import os
from pathlib import Path

from jupyterhub.auth import DummyAuthenticator

from labwright.hub.configuration import configure
from labwright.hub.installation import install
from labwright.hub.settings import from_environment
from labwright.spawner.manifests import Deployment

c = get_config()  # noqa: F821 - JupyterHub puts it here
NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace").read_text()


class GroupsByName(DummyAuthenticator):
    """`research-ada` is of the group research."""

    async def authenticate(self, handler, data):
        name = await super().authenticate(handler, data)
        if name is None:
            return None
        group, dash, _rest = name.partition("-")
        return {"name": name, "groups": [group] if dash else []}


settings = from_environment()
install(settings)
configure(c, settings)

# Hub and proxy are pods of their own here.
c.JupyterHub.bind_url = "http://:8000"
c.JupyterHub.hub_bind_url = "http://0.0.0.0:8081"
c.JupyterHub.hub_connect_url = f"http://hub.{NAMESPACE}.svc.cluster.local:8081"
c.ConfigurableHTTPProxy.api_url = f"http://proxy-api.{NAMESPACE}.svc.cluster.local:8001"
c.ConfigurableHTTPProxy.auth_token = os.environ["CONFIGPROXY_AUTH_TOKEN"]

c.JupyterHub.authenticator_class = GroupsByName
c.GroupsByName.password = os.environ["TESTS_TOKEN"]
c.JupyterHub.services = [*c.JupyterHub.services, {"name": "tests", "api_token": os.environ["TESTS_TOKEN"]}]
scopes = ["admin:users", "admin:servers", "access:servers", "read:hub", "groups", "admin:groups"]
c.JupyterHub.load_roles = [*c.JupyterHub.load_roles, {"name": "tests", "services": ["tests"], "scopes": scopes}]

c.KubernetesSpawner.deployment = Deployment(
    images={"user": os.environ["USER_IMAGE"], "gpu": os.environ["USER_GPU_IMAGE"]},
    home_bytes=2**30,
    cpu_request_share=0.05,
)
c.Spawner.start_timeout = int(os.environ["START_TIMEOUT"])
