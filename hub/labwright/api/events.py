"""What the event streams carry: `GET …/api/v1/events?after=N` (server-sent events).

A message names what changed; the reader fetches it again. `id:` is the sequence to resume after.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from labwright.api.jobs import Wire

Topic = Literal["job", "run", "cluster", "reservation", "connection", "experiment", "model"]


class Event(Wire):
    sequence: int
    topic: Topic
    key: str = Field(description="Id of the job, run, cluster … that changed.")
    action: Literal["created", "updated", "deleted", "restored"]
    time: datetime
