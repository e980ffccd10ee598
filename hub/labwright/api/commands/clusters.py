"""`labwright clusters`: the same verbs as %cluster, for people, CI and cron."""

from __future__ import annotations

import json
import time

import click

from labwright.api.client import Client
from labwright.api.clusters import Cluster, ClusterPage
from labwright.api.errors import LabwrightError

WAIT_SECONDS = 180.0


@click.group()
def clusters() -> None:
    """Start, list, scale and stop clusters of Dask and Spark."""


@clusters.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
def list_clusters(as_json: bool) -> None:
    """Your clusters."""
    found = ClusterPage(**Client.from_environment().core("GET", "/clusters")).items
    if not found and not as_json:
        click.echo("No clusters. Start one: labwright clusters start dask")
    for one in found:
        click.echo(json.dumps(one.model_dump(mode="json")) if as_json else sentence(one))


@clusters.command()
@click.argument("engine", type=click.Choice(["dask", "spark"]))
@click.option("--workers", "-n", default=2, show_default=True, help="Dask: processes. Spark: threads.")
@click.option("--name", help="Chosen for you when absent.")
@click.option("--profile", help="Size of one worker; the smallest when absent.")
@click.option("--group", help="The group that is billed; yourself when absent.")
@click.option("--wait/--no-wait", default=True, help="Return when it runs (default), or at once.")
def start(engine: str, workers: int, name: str | None, profile: str | None, group: str | None, wait: bool) -> None:
    """Start a cluster."""
    client = Client.from_environment()
    ask = {"engine": engine, "workers": workers, "name": name, "profile": profile, "group": group}
    cluster = Cluster(**client.core("POST", "/clusters", json=ask))
    if wait:
        cluster = until(client, cluster, "running", workers if engine == "dask" else 1)
    click.echo(sentence(cluster))


@clusters.command()
@click.argument("name")
@click.argument("workers", type=int)
def scale(name: str, workers: int) -> None:
    """Change the number of workers of a Dask cluster."""
    client = Client.from_environment()
    cluster = Cluster(**client.core("POST", f"/clusters/{name}/scale", json={"workers": workers}))
    click.echo(sentence(cluster))


@clusters.command()
@click.argument("name")
@click.option("--wait/--no-wait", default=True, help="Return when nothing is left of it (default), or at once.")
def stop(name: str, wait: bool) -> None:
    """Stop a cluster, by name or id."""
    client = Client.from_environment()
    cluster = Cluster(**client.core("DELETE", f"/clusters/{name}"))
    if wait:
        cluster = until(client, cluster, "stopped", 0)
    click.echo(sentence(cluster))


def until(client: Client, cluster: Cluster, state: str, workers: int) -> Cluster:
    """Wait until the cluster is in the state, with so many workers."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not (cluster.state == state and cluster.workers >= workers):
        if cluster.state in ("failed", "stopped"):
            raise LabwrightError(f"The cluster '{cluster.name}' {cluster.state}.", remedy=cluster.reason or "")
        if time.monotonic() > deadline:
            raise LabwrightError(f"The cluster '{cluster.name}' is still {cluster.state} after 3 minutes.")
        time.sleep(0.3)
        cluster = Cluster(**client.core("GET", f"/clusters/{cluster.id}"))
    return cluster


def sentence(cluster: Cluster) -> str:
    size = f"{cluster.workers} of {cluster.workers_wanted} workers"
    parts = [cluster.id, cluster.name, cluster.engine, cluster.state, size, cluster.reason or ""]
    return "  ".join(part for part in parts if part)
