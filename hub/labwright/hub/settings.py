"""Where everything of an embedded workbench lives: folders, ports, users. Read once, then passed around."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from labwright.api import names

SERVICE_USER = "labwright"  # runs hub, core, proxy, MLflow and Dask Gateway when started as root
DATA_USER = "labwright-data"  # runs data and the warehouse: nobody else may read the sources' credentials
SERVICES = ("core", "data", "gateway", "hub", "people")  # each has a token of its own


@dataclass(frozen=True)
class Settings:
    """One workbench. All paths absolute; ports on loopback."""

    home: Path
    workbench_file: Path
    port: int  # the proxy's: the only one a browser uses
    environments: Path  # holds hub/, user/ and mlflow/
    by_user: bool  # started as root: everybody's processes under an operating-system user of their own
    core_database_url: str  # SQLAlchemy; SQLite by default, PostgreSQL by configuration
    data_database_url: str
    spawner: str = "local"  # people's servers: processes of this machine, or pods of the cluster that the hub is in

    # Internal listeners, all on 127.0.0.1, at fixed distances from `port` so that many workbenches fit one machine.
    @property
    def hub_port(self) -> int:
        return self.port + 1

    @property
    def proxy_api_port(self) -> int:
        return self.port + 2

    @property
    def core_port(self) -> int:
        return self.port + 3

    @property
    def data_port(self) -> int:
        return self.port + 4

    @property
    def gateway_port(self) -> int:
        """Dask Gateway's public address (its own proxy)."""
        return self.port + 5

    @property
    def gateway_api_port(self) -> int:
        return self.port + 6

    @property
    def gateway_url(self) -> str:
        """What Dask's client is given: not its proxy, whose port would be free for anybody while that is away."""
        return f"http://127.0.0.1:{self.gateway_api_port}"

    @property
    def gateway_tcp_port(self) -> int:
        return self.port + 7

    @property
    def public_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def hub_api_url(self) -> str:
        return f"http://127.0.0.1:{self.hub_port}/hub/api"

    @property
    def core_url(self) -> str:
        return f"http://127.0.0.1:{self.core_port}{names.CORE_PREFIX}"

    @property
    def data_url(self) -> str:
        return f"http://127.0.0.1:{self.data_port}{names.DATA_PREFIX}"

    @property
    def mlflow_url(self) -> str:
        """What MLflow's client is given: the door in core."""
        return f"http://127.0.0.1:{self.core_port}{names.MLFLOW_PREFIX}"

    # Folders. `run` and `keys` may be entered by everybody, the others only by their service's user.
    @property
    def run(self) -> Path:
        return self.home / "run"

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    @property
    def homes(self) -> Path:
        return self.home / "homes"

    @property
    def hub_folder(self) -> Path:
        return self.home / "hub"

    @property
    def core_folder(self) -> Path:
        return self.home / "core"

    @property
    def data_folder(self) -> Path:
        return self.home / "data"

    @property
    def mlflow_folder(self) -> Path:
        return self.home / "mlflow"

    @property
    def warehouse_folder(self) -> Path:
        return self.home / "warehouse"

    @property
    def lake_folder(self) -> Path:
        return self.home / "lake"

    @property
    def artifacts_url(self) -> str:
        """fsspec URL of the artifact store."""
        return f"file://{self.core_folder / 'artifacts'}"

    @property
    def launcher_socket(self) -> Path:
        return self.run / "launcher.sock"

    @property
    def mlflow_socket(self) -> Path:
        return self.mlflow_folder / "mlflow.sock"

    @property
    def public_key_file(self) -> Path:
        """Core's Ed25519 public key (PEM), readable by every service."""
        return self.home / "keys" / "core.pub"

    @property
    def signing_key_file(self) -> Path:
        return self.core_folder / "signing.key"

    def service_token_file(self, service: str) -> Path:
        """The hub API token of an external service ('core', 'data', 'hub', 'gateway'), readable by it alone."""
        folder = self.data_folder if service == "data" else self.core_folder if service == "core" else self.hub_folder
        return folder / f"{service}.token"

    def python(self, environment: str) -> Path:
        return self.environments / environment / "bin" / "python"

    def as_environment(self, service: str | None = None) -> dict[str, str]:
        """The variables from which `from_environment` makes these settings again in a service's process.

        A database's address may have a password in it: `service` gets its own alone.
        """
        databases = {"core": self.core_database_url, "data": self.data_database_url}
        return {
            names.HOME: str(self.home),
            "LABWRIGHT_CONFIG": str(self.workbench_file),
            "LABWRIGHT_PORT": str(self.port),
            "LABWRIGHT_ENVIRONMENTS": str(self.environments),
            "LABWRIGHT_BY_USER": "1" if self.by_user else "0",
            "LABWRIGHT_SPAWNER": self.spawner,
            **{
                f"LABWRIGHT_{name.upper()}_DATABASE_URL": url
                for name, url in databases.items()
                if service in (None, name)
            },
        }

    def person_environment(self) -> dict[str, str]:
        """Where a person's servers and runs find the services. No secret."""
        return {
            names.CORE_URL: self.core_url,
            names.DATA_URL: self.data_url,
            "MLFLOW_TRACKING_URI": self.mlflow_url,
            # A bare `dask_gateway.Gateway()`, as Dask's own documentation has it; never by a proxy for the internet.
            "DASK_GATEWAY__ADDRESS": self.gateway_url,
            "DASK_GATEWAY__PROXY_ADDRESS": f"gateway://127.0.0.1:{self.gateway_tcp_port}",
            "DASK_GATEWAY__AUTH__TYPE": "labwright.kernels.dask_auth.TokenAuth",
            "DASK_GATEWAY__HTTP_CLIENT__PROXY": "False",
            **names.LIBRARY_DEFAULTS,
        }


def from_environment(environ: Mapping[str, str] = os.environ) -> Settings:
    """Settings from LABWRIGHT_* variables; the defaults are a private workbench of this checkout."""
    root = os.geteuid() == 0
    # Root's own home is closed to the people whose servers must read their files.
    default_home = Path("/var/lib/labwright") if root else Path("~/.local/share/labwright").expanduser()
    home = Path(environ.get(names.HOME) or default_home).expanduser().resolve()
    prefix = Path(sys.prefix)
    environments = Path(environ.get("LABWRIGHT_ENVIRONMENTS") or prefix.parent)
    checkout = Path(__file__).resolve().parents[3]
    by_user = environ.get("LABWRIGHT_BY_USER", "1" if root else "0") == "1"
    return Settings(
        home=home,
        workbench_file=Path(environ.get("LABWRIGHT_CONFIG") or checkout / "config" / "workbench.yaml").resolve(),
        port=int(environ.get("LABWRIGHT_PORT") or 8000),
        environments=environments,
        by_user=by_user,
        core_database_url=environ.get("LABWRIGHT_CORE_DATABASE_URL") or f"sqlite:///{home}/core/core.sqlite",
        data_database_url=environ.get("LABWRIGHT_DATA_DATABASE_URL") or f"sqlite:///{home}/data/data.sqlite",
        spawner=environ.get("LABWRIGHT_SPAWNER") or "local",
    )
