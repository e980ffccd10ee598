"""Where a cluster's processes keep their files, below its owner's home, and what is left of them when it has ended."""

from __future__ import annotations

from pathlib import Path

from labwright.spawner.launcher import Launcher, Limits, Principal

PLACE = Path(".local/share/labwright")
FOLDER, LOGS = PLACE / "clusters", PLACE / "cluster-logs"

# As the owner, who alone may write there. A log may be of any length; its end says why.
CLEAN_UP = """
umask 077
[ -d "$1" ] || exit 0
for log in "$1"/*.log; do
    [ -f "$log" ] && mkdir -p "$2" && tail -c 65536 "$log" > "$2/${log##*/}"
done
rm -rf "$1"
[ -d "${2%/*}" ] || exit 0
find "${2%/*}" -mindepth 1 -maxdepth 1 -mtime +7 -exec rm -rf {} +
"""


async def cluster_folder(launcher: Launcher, owner: str, name: str) -> Path:
    return await launcher.prepare(Principal(owner)) / FOLDER / name


async def clean_up(launcher: Launcher, owner: str, name: str) -> None:
    """Begin to remove the folder with all secrets in it. The ends of its logs are kept for a week."""
    home = await launcher.prepare(Principal(owner))
    argv = ["/bin/sh", "-c", CLEAN_UP, "sh", str(home / FOLDER / name), str(home / LOGS / name)]
    await launcher.launch(Principal(owner), argv, env={}, limits=Limits(), name="cluster-cleanup")


def where_logs_are(name: str) -> str:
    """A sentence for the owner of a cluster that has ended."""
    return f"Its logs are kept for a week: tail ~/{LOGS / name}/*.log"
