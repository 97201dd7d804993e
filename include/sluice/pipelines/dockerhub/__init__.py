"""How popular is an image, over time (docs/pipelines.md, dockerhub)."""

PIPELINE = "dockerhub"
