"""The processes of a workbench, and the supervisor's configuration that runs them. Pure: writes nothing."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from labwright.hub.settings import DATA_USER, SERVICE_USER, Settings

PERSONS_SERVER = "labwright.extensions.singleuser"  # run as `python -m` in the people's environment
SUPERVISED = "LABWRIGHT_SUPERVISED"  # marks a workbench's services, so that `down` finds strays


@dataclass(frozen=True)
class Program:
    """One supervised process. `user` is None where the supervisor's own is kept."""

    name: str
    argv: Sequence[str]
    user: str | None
    home: str
    environment: Mapping[str, str] = field(default_factory=dict)
    ends_its_children: bool = True  # the launcher's children are people's processes and must live on
    module: str | None = None


def programs(settings: Settings) -> list[Program]:
    """All of them, in the order of their start. None needs another to start: each tries until its partners answer.

    Those that the login page can do without start after it, and MLflow after all: on two cores the page is there in
    half the time.
    """
    python = str(settings.python("hub"))
    service, data = (SERVICE_USER, DATA_USER) if settings.by_user else (None, None)

    def module(
        name: str,
        module: str,
        user: str | None,
        folder: object,
        *arguments: str,
        ends: bool = True,
        after: int | None = None,
    ) -> Program:
        turn = ["-m", "labwright.hub.turn", str(after)] if after else ["-m"]
        return Program(name, [python, *turn, module, *arguments], user, str(folder), {}, ends, module)

    launcher = ["--socket", str(settings.launcher_socket), "--homes", str(settings.homes)]
    launcher += ["--state", str(settings.run / "launcher")]
    launcher += ["--template", str(settings.python("user")), PERSONS_SERVER]
    if settings.by_user:
        launcher += ["--by-user", "--service-user", SERVICE_USER]
        for port, owner in held_ports(settings).items():
            launcher += ["--hold", f"{port}:{owner}"]
    config = settings.hub_folder / "jupyterhub_config.py"
    hub = [python, "-m", "jupyterhub", "-f", str(config)]
    hub_port, gateway_port = settings.hub_port, settings.gateway_port
    return [
        module("launcher", "labwright.spawner.launcherd", None, settings.run, *launcher, ends=False),
        module("proxy", "labwright.hub.proxy", service, settings.hub_folder),
        Program("hub", hub, service, str(settings.hub_folder), module="labwright.hub.configuration"),
        module("core", "labwright.hub.core", service, settings.core_folder),
        module(
            "warehouse", "labwright.hub.data.warehouse", data, settings.warehouse_folder, ends=False, after=hub_port
        ),
        module("data", "labwright.hub.data", data, settings.data_folder, after=hub_port),
        module("gateway", "labwright.hub.dask_gateway", service, settings.hub_folder, after=hub_port),
        module("mlflow", "labwright.hub.mlflow_server", service, settings.mlflow_folder, after=gateway_port),
    ]


def held_ports(settings: Settings) -> dict[int, str]:
    """The ports that the launcher keeps for a service, with the service's account.

    Not those of the gateway's own proxy, which cannot share a port: nobody sends a token there, and what passes to
    schedulers is TLS with the cluster's own certificate.
    """
    own = (settings.port, settings.hub_port, settings.proxy_api_port, settings.core_port, settings.gateway_api_port)
    return {**dict.fromkeys(own, SERVICE_USER), settings.data_port: DATA_USER}


def exists(program: Program) -> bool:
    """Whether the program's module is there: parts are still being written."""
    if program.module is None:
        return True
    try:
        package = importlib.util.find_spec(program.module)
        if package is not None and package.submodule_search_locations is not None:
            return importlib.util.find_spec(program.module + ".__main__") is not None
    except ModuleNotFoundError:
        return False
    return package is not None


def supervisor_configuration(settings: Settings, chosen: Sequence[Program]) -> str:
    """An INI file for supervisord."""
    run, logs = settings.run, settings.logs
    lines = [
        "[unix_http_server]",
        f"file={_plain(run / 'supervisor.sock')}",
        "chmod=0700",
        "[supervisord]",
        f"logfile={_plain(logs / 'supervisord.log')}",
        f"pidfile={_plain(run / 'supervisord.pid')}",
        f"childlogdir={_plain(logs)}",
        "logfile_maxbytes=5MB",
        "logfile_backups=1",
        "umask=077",
        *(["user=root"] if settings.by_user else []),
        "[supervisorctl]",
        f"serverurl=unix://{_plain(run / 'supervisor.sock')}",
        "[rpcinterface:supervisor]",
        "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
    ]
    for priority, program in enumerate(chosen, start=1):
        lines += _program_section(settings, program, priority)
    return "\n".join(lines) + "\n"


def _program_section(settings: Settings, program: Program, priority: int) -> list[str]:
    environment = {
        **settings.as_environment(program.name),
        SUPERVISED: "1",
        "HOME": program.home,
        "PATH": f"{settings.python('hub').parent}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        **program.environment,
    }
    ends = "true" if program.ends_its_children else "false"
    return [
        f"[program:{program.name}]",
        "command=" + " ".join(_quoted(part) for part in program.argv),
        "environment=" + ",".join(f"{key}={_quoted(value)}" for key, value in environment.items()),
        f"directory={_plain(program.home)}",
        *([f"user={program.user}"] if program.user else []),
        f"priority={priority}",
        "autostart=true",
        "autorestart=true",
        # It counts as started after a second, and is tried again (after 1, 2, 3 … s) until somebody mends it.
        "startsecs=1",
        "startretries=1000",
        "stopwaitsecs=10",
        f"stopasgroup={ends}",
        f"killasgroup={ends}",
        "redirect_stderr=true",
        f"stdout_logfile={_plain(settings.logs / (program.name + '.log'))}",
        "stdout_logfile_maxbytes=10MB",
        "stdout_logfile_backups=2",
    ]


def _plain(value: object) -> str:
    return str(value).replace("%", "%%")


def _quoted(value: object) -> str:
    text = _plain(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
