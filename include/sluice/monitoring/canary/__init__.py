"""The canary: one record of its own through each pipeline proves a deployment end to end (docs/decisions/0033)."""
