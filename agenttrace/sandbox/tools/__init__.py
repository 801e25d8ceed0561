"""Scripts that run inside the sandbox as the tool's user."""
