"""How popular is an image, over time (contract, section 1)."""

PIPELINE = "dockerhub"
