"""Data dictionary of the pipeline (docs/tables.md)."""

from sluice.core.dictionary import Collection, Field

COLLECTIONS = (
    Collection(
        "curated/datasets",
        "parquet file",
        "The aggregates of one CSV, one row for each `dp`, sorted by it. Key: `dp`. No value is null",
        "`curated/datasets/<file name without extension>.parquet`",
        (
            Field("dp", "string", "value of the column `dp`"),
            Field("memory_min", "int16", "least `memory` of its rows"),
            Field("memory_max", "int16", "greatest `memory` of its rows"),
            Field("memory_count", "int64", "accepted rows"),
            Field("percentage_max", "double", "greatest `percentage` of its rows, 0 to 1"),
            Field("percentage_avg", "double", "mean of `percentage` of its rows, 0 to 1; from an exact sum"),
            Field("ratio_max", "double", "greatest `ratio` of its rows"),
        ),
        ("datasets_aggregate",),
        "seconds after the CSV arrived, 30 minutes at most",
        "for ever; replaced when its source changes",
    ),
)
