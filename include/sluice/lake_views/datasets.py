"""Charts of one published dataset: its aggregates by `dp`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sluice.aws import s3
from sluice.lake_views.charts import POINTS, chart
from sluice.lake_views.files import RangedObject
from sluice.pipelines.datasets.records import OUTPUT_PREFIX
from sluice.settings import Settings


def read_dataset(settings: Settings, key: str) -> dict[str, Any]:
    """The charts of a dataset, of its first rows in the order of `dp`.

    Args:
        settings: the settings of this process.
        key: of its parquet file.

    Raises:
        ObjectMissing: there is no such dataset.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    found = s3.find_object(settings.lake_bucket, key)
    if found is None:
        raise s3.ObjectMissing(settings.lake_bucket, key)
    with pq.ParquetFile(pa.PythonFile(RangedObject(settings.lake_bucket, key, found.size_bytes), "r")) as file:
        batch = next(file.iter_batches(batch_size=POINTS), None)
        total = file.metadata.num_rows
    about = {"is_whole": total <= POINTS, "rows_read": POINTS}
    return {
        "key": key,
        "name": key.removeprefix(OUTPUT_PREFIX).removesuffix(".parquet"),
        "rows": total,
        "size_bytes": found.size_bytes,
        "stored_at": found.last_modified.isoformat(),
        "charts": [each | about for each in aggregates(batch.to_pylist() if batch else [])],
    }


def aggregates(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A chart for each measure of a dataset, over its `dp`."""
    labels = [str(row["dp"]) for row in rows]

    def series(**columns: str) -> dict[str, list[Any]]:
        return {name: [row[column] for row in rows] for name, column in columns.items()}

    return [
        chart("Rows by dp", "bar", "rows", labels, series(rows="memory_count")),
        chart("Memory by dp", "line", "", labels, series(least="memory_min", greatest="memory_max")),
        chart("Percentage by dp", "line", "0 to 1", labels, series(mean="percentage_avg", greatest="percentage_max")),
        chart("Greatest ratio by dp", "bar", "", labels, series(ratio="ratio_max")),
    ]
