"""What a runner may say at all."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from labwright.api.runner import CommitRequest, Frame

FRAME = {"index": 0, "finished": 1, "total": 2}
COMMIT = {"state": "succeeded", "notebook": None, "peak_memory_bytes": 2**53}


@pytest.mark.parametrize("change", [{"finished": 2**63}, {"total": 2**63}, {"finished": -1}, {"index": 2**63}])
def test_a_count_of_cells_that_no_database_holds_is_refused(change: dict[str, Any]) -> None:
    assert Frame.model_validate(FRAME).total == 2
    with pytest.raises(ValidationError):
        Frame.model_validate(FRAME | change)


@pytest.mark.parametrize("memory", [2**63, -1])
def test_an_amount_of_memory_that_no_database_holds_is_refused(memory: int) -> None:
    assert CommitRequest.model_validate(COMMIT).peak_memory_bytes == 2**53
    with pytest.raises(ValidationError):
        CommitRequest.model_validate(COMMIT | {"peak_memory_bytes": memory})
