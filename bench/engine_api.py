"""The engine's own API, for figures and ways that its command line does not have."""

from __future__ import annotations

import os

import docker
from agenttrace.host import engine


def client() -> docker.DockerClient:
    """Return an SDK client for the engine that the `docker` command talks to, whatever its context."""
    host = os.environ.get("DOCKER_HOST")
    if not host:
        shown = engine.run(["docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}"], check=False)
        host = shown.stdout.strip() if shown.returncode == 0 else ""
    return docker.DockerClient(base_url=host) if host else docker.from_env()
