"""The embedded AWS: a real server on this machine that the pipelines, the demo and the tests talk to."""
