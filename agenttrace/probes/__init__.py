"""Attacks on the sandbox, by name: `battery` reads them, `attack` makes them in real workers, `report` tells."""
