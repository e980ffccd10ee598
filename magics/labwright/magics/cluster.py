"""`%cluster`: start, list, scale, stop and use clusters of Dask and Spark."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any

from labwright.api.client import Client
from labwright.api.clusters import Cluster, ClusterPage
from labwright.api.errors import LabwrightError
from labwright.api.money import money
from labwright.magics import sessions
from labwright.magics.line_parser import LineParser

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

VERBS = ("list", "start", "scale", "stop", "use")
ENGINES = ("dask", "spark")
START_SECONDS = 180.0
POLL_SECONDS = 0.3


def parser() -> LineParser:
    top = LineParser(
        prog="%cluster",
        description="Clusters of Dask and Spark. `client` and `spark` are there in the next cell, without an import.",
    )
    verbs = top.add_subparsers(dest="verb", metavar="verb")

    def verb(name: str, help: str) -> argparse.ArgumentParser:
        return verbs.add_parser(name, help=help, description=help.replace("%%", "%"))

    verb("list", "your clusters (also plain %%cluster)")
    start = verb("start", "start a cluster and wait until it runs")
    start.add_argument("engine", choices=ENGINES)
    start.add_argument("--workers", "-n", type=int, default=2, help="Dask: processes; Spark: threads (2)")
    start.add_argument("--name", help="chosen for you when absent")
    start.add_argument("--profile", help="size of one worker (the smallest)")
    start.add_argument("--group", help="the group that is billed (yourself)")
    scale = verb("scale", "change the number of workers")
    scale.add_argument("name")
    scale.add_argument("workers", type=int)
    verb("stop", "stop a cluster").add_argument("name")
    verb("use", "let client or spark mean this cluster").add_argument("name")
    return top


def run(line: str, cell: str | None, shell: InteractiveShell) -> Any:
    asked = parser().parse_line(line)
    if asked is None:
        return None
    with connected() as http:
        actions: dict[str | None, Callable[[], Any]] = {
            None: lambda: ClusterList(ClusterPage(**http.core("GET", "/clusters")).items),
            "list": lambda: ClusterList(ClusterPage(**http.core("GET", "/clusters")).items),
            "start": lambda: start_cluster(http, asked),
            "scale": lambda: scale_cluster(http, asked),
            "stop": lambda: stop_cluster(http, asked, shell),
            "use": lambda: use_cluster(http, asked),
        }
        return actions[asked.verb]()


@contextmanager
def connected() -> Iterator[Client]:
    http = Client.from_environment()
    try:
        yield http
    finally:
        http.close()


def start_cluster(http: Client, asked: argparse.Namespace) -> None:
    ask = {"engine": asked.engine, "workers": asked.workers, "name": asked.name}
    ask |= {"profile": asked.profile, "group": asked.group}
    cluster = Cluster(**http.core("POST", "/clusters", json=ask))
    watch(http, cluster, asked.workers if asked.engine == "dask" else 1)
    sessions.choose(cluster)


def scale_cluster(http: Client, asked: argparse.Namespace) -> None:
    cluster = sessions.find(http, asked.name)
    cluster = Cluster(**http.core("POST", f"/clusters/{cluster.id}/scale", json={"workers": asked.workers}))
    watch(http, cluster, asked.workers)


def stop_cluster(http: Client, asked: argparse.Namespace, shell: InteractiveShell) -> Line:
    cluster = sessions.find(http, asked.name)
    sessions.forget(shell, cluster)
    http.core("DELETE", f"/clusters/{cluster.id}")
    return Line(f"{cluster.name} is stopping.")


def use_cluster(http: Client, asked: argparse.Namespace) -> Line:
    cluster = sessions.find(http, asked.name)
    sessions.choose(cluster)
    return Line(f"{sessions.NAME_OF[cluster.engine]} is {cluster.name} from the next cell on.")


def watch(http: Client, cluster: Cluster, workers: int) -> None:
    """Show a bar until the cluster has its workers; it ends as a card in the same place."""
    from IPython.display import display

    began = time.monotonic()
    handle = display(Card(cluster, 0.0), display_id=True)  # type: ignore[no-untyped-call]
    assert handle is not None
    while not (cluster.state == "running" and cluster.workers >= workers):
        if cluster.state in ("failed", "stopped", "stopping"):
            handle.update(Card(cluster, None))
            raise LabwrightError(f"The cluster '{cluster.name}' {cluster.state}.", remedy=cluster.reason or "")
        if time.monotonic() - began > START_SECONDS:
            raise LabwrightError(
                f"The cluster '{cluster.name}' has {cluster.workers} of {workers} workers after 3 minutes.",
                remedy="It goes on starting; %cluster shows its state.",
            )
        time.sleep(POLL_SECONDS)
        cluster = Cluster(**http.core("GET", f"/clusters/{cluster.id}"))
        if cluster.state != "running" or cluster.workers < workers:
            handle.update(Card(cluster, time.monotonic() - began))
    handle.update(Card(cluster, None))


class Line(str):
    """A sentence that shows without quotes."""

    def __repr__(self) -> str:
        return str(self)


class Card:
    """A cluster in a cell: a bar while it starts (`seconds` so far), then name, size and dashboard."""

    def __init__(self, cluster: Cluster, seconds: float | None) -> None:
        self.cluster = cluster
        self.seconds = seconds

    def __repr__(self) -> str:
        one = self.cluster
        if self.seconds is not None:
            return f"{one.name}: {one.state}, {one.workers} of {one.workers_wanted} workers, {self.seconds:.0f} s"
        name = sessions.NAME_OF[one.engine]
        ready = f" · use it as {name}" if one.state == "running" else f" · {one.reason}" if one.reason else ""
        link = f" · dashboard {one.dashboard_url}" if one.dashboard_url else ""
        return f"{one.name} · {title(one)} · {one.state} · {sizes(one)}{link}{ready}"

    def _repr_html_(self) -> str:
        one = self.cluster
        style = "border:1px solid var(--jp-border-color2,#ccc);border-radius:4px;padding:8px 12px;max-width:36em"
        head = f"<b>{escape(one.name)}</b> · {title(one)} · {one.state}"
        if self.seconds is not None:
            # Starting is the first half: how long it takes is not known, so the bar nears the middle.
            done = 0.5 * one.workers / max(one.workers_wanted, 1) + 0.5 * (1 - 0.9 ** (self.seconds + 1))
            body = f'<progress max="1" value="{min(done, 0.99):.2f}" style="width:100%"></progress>'
            body += f"{one.workers} of {one.workers_wanted} workers · {self.seconds:.0f} s"
        else:
            body = escape(sizes(one))
            if one.dashboard_url:
                body += f' · <a href="{escape(one.dashboard_url)}" target="_blank" rel="noopener">Dashboard</a>'
            if one.state == "running":
                body += f" · use it as <code>{sessions.NAME_OF[one.engine]}</code>"
            elif one.reason:
                body += f" · {escape(one.reason)}"
        return f'<div style="{style}">{head}<br>{body}</div>'


class ClusterList:
    """All clusters of a person, as a table."""

    def __init__(self, clusters: list[Cluster]) -> None:
        self.clusters = clusters

    def rows(self) -> list[tuple[str, ...]]:
        return [
            (one.name, title(one), one.state, sizes(one), one.dashboard_url or "", one.reason or "")
            for one in self.clusters
        ]

    def __repr__(self) -> str:
        if not self.clusters:
            return "No clusters. Start one: %cluster start dask"
        return "\n".join(" · ".join(part for part in row if part) for row in self.rows())

    def _repr_html_(self) -> str:
        if not self.clusters:
            return "No clusters. Start one: <code>%cluster start dask</code>"
        body = "".join(
            f"<tr><td>{escape(name)}</td><td>{kind}</td><td>{state}</td><td>{escape(size)}</td><td>"
            + (f'<a href="{escape(link)}" target="_blank" rel="noopener">Dashboard</a>' if link else escape(reason))
            + "</td></tr>"
            for name, kind, state, size, link, reason in self.rows()
        )
        return f"<table><tr><th>Cluster</th><th>Engine</th><th>State</th><th>Size</th><th></th></tr>{body}</table>"


def title(cluster: Cluster) -> str:
    return {"dask": "Dask", "spark": "Spark"}[cluster.engine]


def sizes(cluster: Cluster) -> str:
    unit = "workers" if cluster.engine == "dask" else "threads"
    ready = f"{cluster.workers} of {cluster.workers_wanted} {unit} · {cluster.memory_bytes / 2**30:.1f} GB"
    price, cost = (money(amount, cluster.currency) for amount in (cluster.price_per_hour, cluster.cost))
    return f"{ready} · {price}/h · {cost} so far"


def complete(text: str, line: str, shell: InteractiveShell) -> list[str]:
    """The words that can follow: verbs, engines, names of clusters, options."""
    words = line.split()[1:]
    before = words if line.endswith(" ") else words[:-1]
    if text.startswith("-"):
        options = ["--help"]
        if before[:1] == ["start"]:
            options += ["--workers", "--name", "--profile", "--group"]
        return [option for option in options if option.startswith(text)]
    if not before:
        return [verb for verb in VERBS if verb.startswith(text)]
    if before == ["start"]:
        return [engine for engine in ENGINES if engine.startswith(text)]
    if before[0] in ("scale", "stop", "use") and len(before) == 1:
        try:
            with connected() as http:
                found = ClusterPage(**http.core("GET", "/clusters")).items
        except LabwrightError:
            return []
        return [one.name for one in found if one.name.startswith(text) and one.state in ("starting", "running")]
    return []
