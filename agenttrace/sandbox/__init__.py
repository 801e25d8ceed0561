"""The sandbox: `client` talks to warm workers; `runner` and `tools` are what a worker's image carries."""
