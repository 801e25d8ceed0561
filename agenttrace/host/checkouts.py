"""Tasks over checkouts, from the host's side: what makes their trees, and where rows and repositories lie."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from agenttrace.errors import UsageError
from agenttrace.host import weights
from agenttrace.models.hub import HostSettings
from agenttrace.tasks.swe.prepare import draw
from agenttrace.tasks.swe.rows import BUNDLED, hub_name, load, row_files

if TYPE_CHECKING:
    from agenttrace.host import compose
    from agenttrace.tasks.swe.prepare import SweOptions

TARGETS = ("server", "sandbox-execution-free", "rollouts")
SANDBOX = "sandbox-execution-free"
_SOURCE, _MIRROR = Path("/source"), Path("/mirror")


class Places(msgspec.Struct, frozen=True, kw_only=True):
    """Where what tasks are made of lies.

    Attributes:
        source: file or folder on this machine that holds the rows, when it is one.
        repositories: URL with `{repo}`, or a folder of this machine; `None` is GitHub, or the bundled repositories.
        tasks: a task set of somebody's own that does not lie beside its records.
    """

    source: Path | None = None
    tasks: Path | None = None
    repositories: str | None = None

    @property
    def mirror(self) -> Path | None:
        """The folder of repositories on this machine, when it is one."""
        given = self.repositories
        return None if given is None or "://" in given else Path(given)

    @property
    def inside(self) -> str | None:
        """How the container that makes trees calls the source; its name is part of the run spec."""
        return None if self.source is None else str(_SOURCE / self.source.resolve().name)


def check(places: Places | None, options: SweOptions | None = None) -> None:
    """Refuse places that are none, a source that is neither of these nor of the Hub, and a draw that cannot be made.

    Only the bundled rows are at hand before something is built: of others, the container that makes trees says it.

    Raises:
        UsageError: names the option, or the source.
    """
    if options is not None and options.source == BUNDLED:
        draw(load(BUNDLED)[1], options)
    elif options is not None and (places is None or places.source is None):
        hub_name(options.source)
    if places is None:
        return
    for name, path in (("--source", places.source), ("--repositories", places.mirror)):
        if path is not None and not path.exists():
            raise UsageError(f"{name} {path}: there is no such file or folder")
    if places.source is not None:
        row_files(places.source)
    if places.repositories is not None and places.mirror is None and "{repo}" not in places.repositories:
        raise UsageError(f"--repositories {places.repositories}: expected {{repo}} in the URL")


def variables(places: Places | None) -> dict[str, str]:
    """Return what docker-compose.yml is filled with for the container that makes trees."""
    found = {}
    if places is not None and places.source is not None:
        found["AGENTTRACE_ROLLOUT_SOURCE"] = str(places.source.resolve())
        found["AGENTTRACE_ROLLOUT_SOURCE_TARGET"] = str(places.inside)
    if places is not None and places.mirror is not None:
        found["AGENTTRACE_ROLLOUT_MIRROR"] = str(places.mirror.resolve())
    return found


def prepare(services: compose.Services, options: SweOptions, places: Places | None) -> None:
    """Draw the tasks and make their trees, with the user's own way to the outside.

    Raises:
        EndedError: the container said why on standard error.
    """
    places = places or Places()
    if places.inside is not None:
        options = msgspec.structs.replace(options, source=places.inside)
    words = ["prepare", "--from-host", "--options", msgspec.json.encode(options).decode()]
    if places.repositories is not None:
        words += ["--repositories", places.repositories if places.mirror is None else str(_MIRROR)]
    local = options.source == BUNDLED and places.repositories is None
    settings = msgspec.json.encode(HostSettings(environment={}) if local else weights.host_settings())
    services.converse(
        "trees", *words, data=settings, otherwise="the tasks could not be prepared; nothing was collected"
    )
