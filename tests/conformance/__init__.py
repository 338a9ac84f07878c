"""The conformance suite's fixture, and what runs the suite against the daemon."""
