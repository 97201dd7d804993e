"""Monitoring: runs, backlogs, freshness, and alerts."""

PIPELINE = "platform"
