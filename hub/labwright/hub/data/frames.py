"""How a worker's answers are framed: a letter and the length of what follows (see worker.py)."""

from __future__ import annotations

import struct

FRAME = struct.Struct("!cI")
