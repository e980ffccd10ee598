"""Names shared by every process: environment variables, scopes, URL prefixes."""

from __future__ import annotations

# The largest whole number that the API takes: every reader of JSON has it exactly, and every database holds it.
MOST_WHOLE = 2**53
# Where a kernel, a run or the command line finds the services (no trailing slash).
CORE_URL = "LABWRIGHT_CORE_URL"  # e.g. http://127.0.0.1:8003/services/core
DATA_URL = "LABWRIGHT_DATA_URL"  # e.g. http://127.0.0.1:8004/services/data
# A file holding the bearer token of a run or cluster, renewed in place; wins over the next.
TOKEN_FILE = "LABWRIGHT_TOKEN_FILE"  # noqa: S105 - a variable's name
HUB_TOKEN = "JUPYTERHUB_API_TOKEN"  # noqa: S105 - a variable's name
# Set in the kernels of job runs only.
RUN_ID = "LABWRIGHT_RUN_ID"
# The notebook's path relative to its owner's home, where known.
NOTEBOOK = "LABWRIGHT_NOTEBOOK"
PROFILE = "LABWRIGHT_PROFILE"  # slug of the profile that the server or run was started with
IDLE_SECONDS = "LABWRIGHT_IDLE_SECONDS"  # how long the server may be idle before it is stopped
HOME = "LABWRIGHT_HOME"
# Given to a runner at its start: its first token (short-lived, renewed with each lease) and its name.
RUNNER_TOKEN = "LABWRIGHT_RUNNER_TOKEN"  # noqa: S105 - a variable's name
RUNNER_ID = "LABWRIGHT_RUNNER_ID"

# Set by the launcher in whatever it starts, and kept by all that comes of it: so nothing of a launch outlives it.
LAUNCH = "LABWRIGHT_LAUNCH"

# On the command line of Python's (or loky's) process that removes the shared memory, semaphores and folders of those it
# works for once these have all ended, and then ends. Killed before, it leaves them.
RESOURCE_TRACKER = b"resource_tracker import main"

# For every process of a person. Libraries that would report their use to their makers do not. MLflow's client does not
# print the address that it has of MLflow when a run ends, for which it asks the server once more: a browser cannot open
# it, for that is the kernel's way in. A proxy for the internet is never asked for our services.
LIBRARY_DEFAULTS = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "NO_PROXY": "localhost,127.0.0.1",
}

CORE_PREFIX = "/services/core"
DATA_PREFIX = "/services/data"
API = "/api/v1"
MLFLOW_PREFIX = CORE_PREFIX + "/mlflow"

# Custom scopes. JupyterHub wants the prefix custom:.
SCOPE_JOBS = "custom:labwright:jobs"
SCOPE_CLUSTERS = "custom:labwright:clusters"
SCOPE_DATA = "custom:labwright:data"
SCOPE_TRACKING = "custom:labwright:tracking"
SCOPE_USAGE = "custom:labwright:usage"
SCOPE_ADMIN = "custom:labwright:admin"  # never on a token of a server, kernel, run or cluster
SCOPE_LEDGER = "custom:labwright:ledger"  # the hub's own: reserve and release for anybody
SCOPE_RUNNER = "custom:labwright:runner"  # on tokens that core signs for its runners, nowhere else
USER_SCOPES = (SCOPE_JOBS, SCOPE_CLUSTERS, SCOPE_DATA, SCOPE_TRACKING, SCOPE_USAGE)
