"""Records that no model made, for tests and benches."""
