"""Iceberg tables of the lake: what pipelines publish, how it is read, and how it is kept small."""
