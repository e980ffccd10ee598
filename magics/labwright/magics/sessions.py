"""The Dask client and the Spark session of this kernel: connected with the kernel's own token, closed with care."""

from __future__ import annotations

import sys
import time
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labwright.api.client import Client
from labwright.api.clusters import Cluster, ClusterAddress, ClusterPage
from labwright.api.errors import Conflict, LabwrightError, NotFound, Unavailable

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

NAME_OF = {"dask": "client", "spark": "spark"}
# How long a bound session is believed to run before core is asked again.
BELIEVED_SECONDS = 15.0


@dataclass
class Session:
    """What stands behind `client` or `spark` in one kernel."""

    cluster: Cluster
    value: Any
    closers: list[Any]
    seen: float


_sessions: dict[str, Session] = {}  # by engine
_chosen: dict[str, str] = {}  # by engine: the cluster that `%cluster use` or `start` named


def is_ours(shell: InteractiveShell, name: str) -> bool:
    return any(NAME_OF[engine] == name and shell.user_ns.get(name) is s.value for engine, s in _sessions.items())


def choose(cluster: Cluster) -> None:
    """Let the name of its engine mean this cluster from the next use on."""
    _chosen[cluster.engine] = cluster.id


def bind(shell: InteractiveShell, engine: str) -> None:
    """Make `client` or `spark` the session of a running cluster."""
    name, session = NAME_OF[engine], _sessions.get(engine)
    wanted = _chosen.get(engine)
    fits = session is not None and wanted in (None, session.cluster.id)
    if session is not None and fits and time.monotonic() - session.seen < BELIEVED_SECONDS:
        return
    http = Client.from_environment()
    try:
        cluster = _running(http, engine, wanted)
        if session is not None and session.cluster.id == cluster.id:
            session.seen = time.monotonic()
            return
        drop(shell, engine)
        address = ClusterAddress(**http.core("GET", f"/clusters/{cluster.id}/address"))
        value, closers = (_connect_dask if engine == "dask" else _connect_spark)(cluster, address)
    finally:
        http.close()
    _sessions[engine] = Session(cluster, value, closers, time.monotonic())
    shell.user_ns[name] = value


def _running(http: Client, engine: str, wanted: str | None) -> Cluster:
    found = [one for one in ClusterPage(**http.core("GET", "/clusters")).items if one.engine == engine]
    running = [one for one in found if one.state == "running"]
    for one in running:
        if one.id == wanted:
            return one
    if running:
        return running[0]
    starting = [one.name for one in found if one.state == "starting"]
    if starting:
        raise Conflict(f"The cluster '{starting[0]}' is starting.", remedy="Run the cell again in a few seconds.")
    what = "Dask cluster" if engine == "dask" else "Spark session"
    raise LabwrightError(f"No {what} is running.", remedy=f"Start one: %cluster start {engine}")


def drop(shell: InteractiveShell, engine: str) -> None:
    """Close the session and forget its name."""
    session = _sessions.pop(engine, None)
    if session is None:
        return
    name = NAME_OF[engine]
    if shell.user_ns.get(name) is session.value:
        del shell.user_ns[name]
    for close in session.closers:
        try:
            close()
        except Exception as error:  # noqa: BLE001 - the other side may be gone already; the kernel goes on
            print(f"While closing {name}: {type(error).__name__}", file=sys.stderr)


def forget(shell: InteractiveShell, cluster: Cluster) -> None:
    """The cluster is to be stopped: close what is connected to it first."""
    session = _sessions.get(cluster.engine)
    if session is not None and session.cluster.id == cluster.id:
        drop(shell, cluster.engine)
    if _chosen.get(cluster.engine) == cluster.id:
        del _chosen[cluster.engine]


def _connect_dask(cluster: Cluster, address: ClusterAddress) -> tuple[Any, list[Any]]:
    try:
        import dask
        from dask_gateway import Gateway
    except ImportError as error:
        raise _missing("Dask", error) from None
    from labwright.kernels.dask_auth import TokenAuth

    # A proxy set for the internet must not see a token meant for loopback.
    with dask.config.set({"gateway.http-client.proxy": False}):
        gateway = Gateway(address.address, proxy_address=address.proxy_address, auth=TokenAuth())
    try:
        dask_cluster = gateway.connect(address.cluster_name, shutdown_on_close=False)
        dask_cluster.dashboard_link = cluster.dashboard_url
        client = dask_cluster.get_client()
    except (OSError, ValueError, TimeoutError):
        gateway.close()
        raise Unavailable(f"The Dask cluster '{cluster.name}'") from None
    return client, [client.close, dask_cluster.close, gateway.close]


def _connect_spark(cluster: Cluster, address: ClusterAddress) -> tuple[Any, list[Any]]:
    try:
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise _missing("Spark", error) from None
    # PySpark 4.3 says at every conversion that pandas 3 is new to it; the conversions we rely on are tested.
    warnings.filterwarnings("ignore", message="PySpark does not yet fully support pandas", category=FutureWarning)
    # create(), not getOrCreate(): a session of a stopped server may still be the process's default.
    session = SparkSession.builder.remote(address.address).create()
    return session, [session.stop]


def _missing(what: str, error: ImportError) -> LabwrightError:
    return LabwrightError(
        f"{what} is not installed in this environment ({error.name or error}).",
        remedy="Choose the kernel of the workbench's own environment.",
    )


def find(http: Client, name: str) -> Cluster:
    """One of one's clusters by name or id; among ended ones of that name, none."""
    for one in ClusterPage(**http.core("GET", "/clusters")).items:
        if name in (one.id, one.name) and one.state in ("starting", "running", "stopping"):
            return one
    raise NotFound("cluster", name)
