"""Benches, checks and synthetic data of the kit: for its developers, not in the wheel. `python -m bench NAME`."""
