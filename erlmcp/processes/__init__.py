"""Child processes: launched, confined, and ended with all that they started."""
