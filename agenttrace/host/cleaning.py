"""Removes everything of the kit from the engine, whichever checkout left it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from agenttrace.host import compose

if TYPE_CHECKING:
    from collections.abc import Iterator


def clean(*, images: bool) -> Iterator[str]:
    """Remove all containers, networks, volumes (and images) that carry the project's label; yield a line for each.

    Record files on the host are never touched.
    """
    import docker.errors  # noqa: PLC0415

    sdk = compose.client()
    ours: dict[str, str | list[str] | bool] = {"label": compose.PROJECT_LABEL}
    for container in sdk.containers.list(all=True, filters=ours, ignore_removed=True):
        with contextlib.suppress(docker.errors.NotFound):
            container.remove(force=True, v=True)
            yield f"removed container {container.name}"
    for kind, found in (("network", sdk.networks.list(filters=ours)), ("volume", sdk.volumes.list(filters=ours))):
        for item in found:
            with contextlib.suppress(docker.errors.NotFound):
                item.remove()
                yield f"removed {kind} {item.name}"
    if images:
        for image in sdk.images.list(filters=ours):
            with contextlib.suppress(docker.errors.NotFound):
                sdk.images.remove(str(image.id), force=True)
                yield f"removed image {', '.join(image.tags) or image.short_id}"
