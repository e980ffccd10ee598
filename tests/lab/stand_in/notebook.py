"""The notebook that every run ran, with script in its outputs, and the schema of its parameters."""

from __future__ import annotations

from typing import Any

SCHEMA = {
    "type": "object",
    "properties": {
        "carrier": {"type": "string", "default": "UA", "description": "Two letters of the airline."},
        "month": {"type": "integer", "default": 7, "minimum": 1, "maximum": 12},
        "threshold": {"type": "number", "default": 15.0},
        "plot": {"type": "boolean", "default": True},
        "airports": {"type": "array", "default": ["JFK", "LGA"]},
    },
    "additionalProperties": False,
}
NOTEBOOK: dict[str, Any] = {
    "nbformat": 4,
    "nbformat_minor": 5,
    "metadata": {},
    "cells": [
        {"cell_type": "markdown", "id": "a", "metadata": {}, "source": "# Late flights\nOne carrier, one month."},
        {
            "cell_type": "code",
            "id": "b",
            "metadata": {"tags": ["parameters"]},
            "execution_count": 1,
            "outputs": [],
            "source": 'carrier: str = "UA"\nmonth: int = 7',
        },
        {
            "cell_type": "code",
            "id": "c",
            "metadata": {"trusted": True, "papermill": {"duration": 1.24}},
            "execution_count": 2,
            "outputs": [
                {
                    "output_type": "display_data",
                    "metadata": {},
                    "data": {
                        "text/html": "<table><tr><th>month</th><th>late</th></tr>"
                        "<tr><td>7</td><td>0.31</td></tr></table>"
                        "<script>window.pwned = 1</script><img src=x onerror='window.pwned = 2'>"
                    },
                },
                {"output_type": "display_data", "metadata": {}, "data": {"application/javascript": "window.pwned = 3"}},
            ],
            "source": "flights.groupby('month').late.mean()",
        },
        {
            "cell_type": "code",
            "id": "d",
            "metadata": {"papermill": {"duration": 68.3}},
            "execution_count": 3,
            "outputs": [{"output_type": "stream", "name": "stdout", "text": "fitted 57 431 rows\n"}],
            "source": "fit(flights)",
        },
    ],
}
