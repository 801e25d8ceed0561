"""Task sets of the user's own: read and checked, laid out as trees, judged. The format: docs/own-tasks.md."""
