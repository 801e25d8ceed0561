"""The task sets themselves: are their references stable, do they pass."""
