"""An event stream into a deduplicated, catalogued lake (contract, section 2)."""

PIPELINE = "events"
