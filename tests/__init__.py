"""The tests: ``python -m twisted.trial tests`` from the checkout's root."""
