"""Which model is meant, and its weights: named, fetched, verified."""
