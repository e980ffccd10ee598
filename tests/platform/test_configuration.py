"""What the hub is configured with: where people's servers run is one word of the environment."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from jupyterhub import orm
from postgresql import PostgreSQL
from traitlets.config import Config

from labwright.api.errors import InvalidRequest
from labwright.hub.configuration import configure
from labwright.hub.installation import install
from labwright.hub.settings import Settings, from_environment


def settings_with(home: Path, **variables: str) -> Settings:
    settings = from_environment({"LABWRIGHT_HOME": str(home), "LABWRIGHT_BY_USER": "0", **variables})
    install(settings)
    return settings


def configured(settings: Settings) -> Config:
    c = Config()
    configure(c, settings)
    return c


def test_servers_are_this_machines_processes_unless_said_otherwise(tmp_path: Path) -> None:
    assert configured(settings_with(tmp_path)).JupyterHub.spawner_class.__name__ == "LabwrightSpawner"


def test_servers_are_pods_where_the_environment_says_so(tmp_path: Path) -> None:
    settings = settings_with(tmp_path, LABWRIGHT_SPAWNER="kubernetes")
    c = configured(settings)
    assert c.JupyterHub.spawner_class.__name__ == "KubernetesSpawner"
    assert c.KubernetesSpawner.workbench().profiles
    assert from_environment(settings.as_environment("hub")).spawner == "kubernetes"


@pytest.mark.parametrize("spawner", ["local", "kubernetes"])
def test_who_finds_too_many_starts_under_way_is_asked_back_in_seconds(tmp_path: Path, spawner: str) -> None:
    hub = configured(settings_with(tmp_path, LABWRIGHT_SPAWNER=spawner)).JupyterHub
    soonest, latest = hub.tornado_settings["spawn_throttle_retry_range"]
    assert 1 <= soonest < latest <= 10


def test_people_who_wait_for_a_gpu_leave_others_room_to_start_pods(tmp_path: Path) -> None:
    """A start that waits for a place in the cluster is under way for minutes, and counts."""
    local = configured(settings_with(tmp_path / "local")).JupyterHub
    pods = configured(settings_with(tmp_path / "pods", LABWRIGHT_SPAWNER="kubernetes")).JupyterHub
    assert pods.concurrent_spawn_limit >= 4 * local.concurrent_spawn_limit


def test_a_spawner_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="There is no spawner 'docker'") as caught:
        configured(settings_with(tmp_path, LABWRIGHT_SPAWNER="docker"))
    assert "LABWRIGHT_SPAWNER" in str(caught.value.remedy)


def test_a_local_hub_does_not_load_the_clusters_client() -> None:
    look = "import sys, labwright.hub.configuration; print([m for m in sys.modules if 'kube' in m])"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_hub_moves_to_postgresql_by_its_address_alone(tmp_path: Path, postgresql: PostgreSQL) -> None:
    hub = configured(settings_with(tmp_path)).JupyterHub
    hub.db_url = postgresql.new_database()  # as somebody's own jupyterhub_config.py does
    session = orm.new_session_factory(hub.db_url, **hub.db_kwargs)()
    try:
        session.add(orm.User(name="alice"))
        session.commit()
        assert session.query(orm.User).count() == 1
    finally:
        session.close()
        session.get_bind().dispose()
