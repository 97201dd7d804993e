"""Data-quality gates: what is read in staging must pass before it is published."""
