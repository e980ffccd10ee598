"""A person's server: `jupyterhub-singleuser`, started without the hub's own pages and database.

JupyterHub's log takes the class of its health check from the hub's page handlers, and its metrics name the hub's
tables: with them come Alembic and the hub, a sixth of the processor time until a server answers. No server has that
handler, so a class that nothing is an instance of does as well; the tables load should somebody ask for them.
"""

from __future__ import annotations

import importlib
import os
import sys
from importlib.util import LazyLoader, find_spec, module_from_spec
from types import ModuleType

from tornado.web import RequestHandler

from labwright.kernels.client import warm_in_background

# The first kernel may be asked for two seconds after the start, and a parent takes one, with two cores and a browser
# that loads Lab. At once, it would hold up the server's own start.
WARM_AFTER_SECONDS = 0.4
# Not `jupyterlab.labapp` itself: its settings' folders are looked up while it is imported.
AHEAD = (
    "jupyterhub.singleuser",
    "jupyterlab.commands",
    "jupyterlab.coreconfig",
    "jupyterlab.extensions",
    "jupyterlab.handlers.build_handler",
    "jupyterlab.handlers.error_handler",
    "jupyterlab.handlers.extension_manager_handler",
    "jupyterlab.handlers.plugin_manager_handler",
    "jupyterlab_server",
    "jupyter_server_terminals",
    "labwright.extensions.application",
    "labwright.extensions.kernels",
    "labwright.kernels.provisioner",
    "notebook_shim.shim",
)


def leave_out_the_hubs_pages() -> None:
    handlers, pages = ModuleType("jupyterhub.handlers"), ModuleType("jupyterhub.handlers.pages")
    vars(pages)["HealthCheckHandler"] = type("HealthCheckHandler", (RequestHandler,), {})
    handlers.__path__ = []
    sys.modules |= {"jupyterhub.handlers": handlers, "jupyterhub.handlers.pages": pages}


def import_at_first_use(name: str) -> None:
    """Put a module in place whose code runs when something of it is asked for."""
    spec = find_spec(name)
    assert spec is not None
    assert spec.loader is not None
    spec.loader = LazyLoader(spec.loader)
    module = sys.modules[name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    package, _, last = name.rpartition(".")
    setattr(sys.modules[package], last, module)


def leave_yarn_alone() -> None:
    """Have Lab not ask Node which registry it would build from: half a second of each start, and nothing is built."""
    commands = importlib.import_module("jupyterlab.commands")
    vars(commands)["_yarn_config"] = lambda logger: {"yarn config": {}, "npm config": {}}


def prepare() -> None:
    leave_yarn_alone()
    leave_out_the_hubs_pages()
    import_at_first_use("jupyterhub.orm")  # its metrics count the hub's rows, which a server has none of


def import_ahead() -> None:
    """What every server imports: the launcher keeps a process that has done it, and forks servers from that."""
    prepare()
    for name in AHEAD:
        importlib.import_module(name)


def look_again() -> None:
    """For what has looked at the environment while it was imported ahead, which was the template's."""
    if trash := sys.modules.get("send2trash.plat_other"):
        importlib.reload(trash)
    if "jupyter_client.session" in sys.modules:
        sys.argv.append(f"--Session.username={os.environ.get('USER', 'username')}")


def main() -> None:
    warm_in_background(WARM_AFTER_SECONDS)
    if "jupyterhub" in sys.modules:
        look_again()
    else:
        prepare()
    from jupyterhub.singleuser import main as run

    run()


if __name__ == "__main__":
    main()
