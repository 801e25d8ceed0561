"""Removes everything of the kit from the engine, whichever checkout left it."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agenttrace.host import compose

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass
class Report:
    """What a clean-up did: a line per thing, and whether nothing was left."""

    lines: list[str] = field(default_factory=list)
    complete: bool = True

    def attempt(self, what: str, remove: Callable[[], Any]) -> None:
        """Remove one thing and note how it went; a thing that is in use stays and does not stop the rest."""
        import docker.errors  # noqa: PLC0415

        try:
            remove()
        except docker.errors.NotFound:
            return
        except docker.errors.APIError as error:
            self.leave(what, str(error.explanation))
        else:
            self.lines.append(f"removed {what}")

    def leave(self, what: str, why: str) -> None:
        """Note a thing that stays."""
        self.lines.append(f"left alone: {what} ({why})")
        self.complete = False


def clean(*, images: bool, everything: bool = False) -> Report:
    """Remove containers, networks and volumes (and images) that carry the project's label.

    Record files on the host are never touched; nor is BuildKit's cache, which is not the kit's alone.

    Args:
        images: remove the images as well.
        everything: also remove what a running campaign of another checkout uses.
    """
    sdk = compose.client()
    ours: dict[str, str | list[str] | bool] = {"label": compose.PROJECT_LABEL}
    report = Report()
    for container in sdk.containers.list(all=True, filters=ours, ignore_removed=True):
        project = container.labels.get("com.docker.compose.project", "")
        if container.status == "running" and not project.startswith(compose.project_name()) and not everything:
            report.leave(f"container {container.name}", "another checkout's campaign runs; -- --all removes it")
        else:
            report.attempt(f"container {container.name}", functools.partial(container.remove, force=True, v=True))
    others: list[Any] = [*sdk.networks.list(filters=ours), *sdk.volumes.list(filters=ours)]
    for item in others:
        report.attempt(f"{type(item).__name__.lower()} {item.name}", item.remove)
    if images:
        for image in sdk.images.list(filters=ours):
            name = ", ".join(image.tags) or image.short_id
            report.attempt(f"image {name}", functools.partial(sdk.images.remove, str(image.id), force=True))
        report.lines.append("BuildKit's cache is not the kit's alone and stays; docker builder prune empties it")
    return report
