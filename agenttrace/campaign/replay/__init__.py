"""Replays: a recorded campaign runs again without a model, and every difference from its records is named."""
