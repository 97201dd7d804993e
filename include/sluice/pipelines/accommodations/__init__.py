"""Partner catalogues consolidated (contract, section 4)."""

PIPELINE = "accommodations"
