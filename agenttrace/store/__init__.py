"""Record files: append-only JSON Lines that a kill at any instant leaves whole."""
