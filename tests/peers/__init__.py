"""Other people's implementations against ours, in real processes on loopback."""
