"""Iceberg tables of the lake: commits, reading and maintenance."""
