"""Popularity of container images over time (docs/pipelines.md, dockerhub)."""

PIPELINE = "dockerhub"
