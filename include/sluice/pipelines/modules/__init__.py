"""Success rate of IoT transmissions (contract, section 3)."""

PIPELINE = "modules"
