"""The platform's senses: what ran, what waits, how old the data is, and who is told when something is wrong."""

PIPELINE = "platform"
