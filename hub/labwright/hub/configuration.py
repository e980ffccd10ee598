"""JupyterHub's configuration, as code that can be imported and tested.

`config/jupyterhub_config.py` calls `configure(c)`. The hub runs beside the proxy and the services, never above them:
its restart stops nothing.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from functools import partialmethod
from pathlib import Path
from typing import Any

from tornado.httpserver import HTTPServer

from labwright.api import names
from labwright.hub import hub_database
