"""CSV in, aggregated parquet out (contract, section 5)."""

PIPELINE = "datasets"
