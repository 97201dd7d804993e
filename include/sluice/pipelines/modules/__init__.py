"""Success rate of IoT transmissions (docs/pipelines.md, modules)."""

PIPELINE = "modules"
