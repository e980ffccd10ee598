"""A real Spark Connect server, started as the workbench starts it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import World, until
from .test_dask import python

ASK = """
import json, sys
from pyspark.sql import SparkSession
spark = SparkSession.builder.remote(sys.argv[1]).create()
from pyspark.sql.functions import udf
import pandas as pd
frame = spark.createDataFrame(pd.DataFrame({"carrier": ["UA", "AA", "UA"], "delay": [10, 4, 20]}))
rows = frame.groupBy("carrier").avg("delay").orderBy("carrier").collect()
double = udf(lambda n: n * 2, "long")
doubled = [row[0] for row in frame.select(double("delay")).collect()]
print(json.dumps({"rows": [tuple(row) for row in rows], "doubled": doubled}))
spark.stop()
"""


@pytest.mark.slow
async def test_spark_answers_its_owner_and_nobody_else_and_stops_whole(world: World) -> None:
    made = await world.start(engine="spark", workers=1)
    await world.until_state(made["id"], "running", seconds=300)
    for method, path in (("GET", ""), ("GET", "/address"), ("DELETE", "")):
        assert (await world.call(method, f"/clusters/{made['id']}{path}", "bob-token")).status_code == 404
    address = (await world.call("GET", f"/clusters/{made['id']}/address")).json()["address"]
    code, out, err = await python(world, ASK, address)
    assert code == 0, err
    assert json.loads(out) == {"rows": [["AA", 4.0], ["UA", 15.0]], "doubled": [20, 8, 40]}

    url, _, token = address.partition("token=")
    code, out, err = await python(world, ASK, f"{url}token=wrong")
    assert code != 0
    assert "UNAUTHENTICATED" in err or "authentication" in err.lower(), err[-2000:]

    # The token is on no command line, in no environment and in no file that others may read.
    for pid in world.launcher.alive():
        process = Path(f"/proc/{pid}")
        assert token not in process.joinpath("cmdline").read_text() + process.joinpath("environ").read_text()
    (properties,) = world.settings.homes.rglob("spark.properties")
    assert token in properties.read_text()
    assert properties.stat().st_mode & 0o077 == 0
    assert token not in (properties.parent / "spark.log").read_text()

    with world.core.database.engine.connect() as connection:
        ui = connection.exec_driver_sql("select dashboard from clusters").scalar_one()
    assert (await world.http.get(f"{ui}/jobs/")).status_code in (401, 403)
    page = f"{world.settings.core_url}/clusters/{made['id']}/dashboard/jobs/"
    mine = {"Authorization": "Bearer alice-token", "X-Forwarded-Context": "/user/alice/labwright/clusters/x/dashboard"}
    shown = await world.http.get(page, headers=mine)
    assert shown.status_code == 200
    assert "/user/alice/labwright/clusters/x/dashboard/static/" in shown.text
    assert (await world.http.get(page, headers={"Authorization": "Bearer bob-token"})).status_code == 404
    settings = await world.http.get(page.replace("jobs/", "environment/"), headers=mine)
    assert settings.status_code == 200
    assert token not in settings.text

    before = world.launcher.alive()
    await world.restart_core()
    assert (await world.cluster(made["id"]))["state"] == "running"
    assert world.launcher.alive() == before

    await world.call("DELETE", f"/clusters/{made['id']}")
    await world.until_state(made["id"], "stopped")

    async def gone() -> bool:
        return not world.launcher.alive() and not list(world.settings.homes.rglob("spark.properties"))

    await until(gone)


async def test_a_spark_server_that_cannot_start_fails_with_a_reason(world: World) -> None:
    world.user_python_fails("There is no Java here.")
    made = await world.start(engine="spark", workers=1)
    failed = await world.until_state(made["id"], "failed")
    assert "ended with code 3" in failed["reason"]
    assert world.launcher.names.count("spark") == 3  # tried again, since a port may have been taken
    assert world.ledger.held == {}
    assert await world.logs_named_in(failed["reason"]) == "There is no Java here.\n"


async def test_spark_is_shown_the_gpus_of_all_its_workers(world: World) -> None:
    world.user_python_fails("It need not run.")
    made = await world.start(engine="spark", workers=2, profile="gpus")
    await world.until_state(made["id"], "failed")
    assert world.launcher.limits["spark"].gpus == 4
