"""CSV in, aggregated parquet out (docs/pipelines.md, datasets)."""

PIPELINE = "datasets"
