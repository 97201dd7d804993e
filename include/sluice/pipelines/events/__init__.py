"""An event stream into a deduplicated, catalogued lake (docs/pipelines.md, events)."""

PIPELINE = "events"
