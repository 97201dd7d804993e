"""How fast: each measure beside its peers or its floor, in one run on the same data."""
