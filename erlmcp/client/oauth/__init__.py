"""Authorization as a client meets it: discovery, registration, tokens, and what to do when one is refused."""
