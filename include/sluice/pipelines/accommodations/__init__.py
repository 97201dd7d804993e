"""Partner catalogues consolidated (docs/pipelines.md, accommodations)."""

PIPELINE = "accommodations"
