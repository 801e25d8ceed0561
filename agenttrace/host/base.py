"""The root file system that every image starts from: Debian's own where a registry answers, else one made here."""

from __future__ import annotations

import calendar
import os
import re
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from agenttrace.errors import UsageError
from agenttrace.models.fetch import sha256_of
from agenttrace.models.reference import expanded
from agenttrace.show import say

from . import engine
from .place import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

LOCAL_NAME = "agenttrace-base"
SUITE = "forky"
PROJECT_LABEL = "org.agenttrace.project=agenttrace"
ARCH_VARIABLE = "AGENTTRACE_ARCH"
ARCHITECTURES = ("amd64", "arm64")
"""Debian's names of what the images are built for."""

_REGISTRY_TIMEOUT_S = 10.0
_CA_VARIABLES = ("PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE")
_CA_FILES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")

_MMDEBSTRAP = (
    "mmdebstrap",
    "--quiet",
    "--variant=minbase",
    '--aptopt=Acquire::Check-Valid-Until "false"',
    # What it copies from this machine, or notes of it, is taken out: the tree is the same wherever it is made.
    '--customize-hook=cd "$1"/etc && rm -f hostname resolv.conf apt/apt.conf.d/99mmdebstrap && : >apt/sources.list',
)


@dataclass(frozen=True, slots=True)
class Base:
    """What `FROM` names, and where its packages come from."""

    reference: str
    origin: Literal["registry", "mmdebstrap"]
    apt_source: str | None = None
    """Line for apt's `sources.list` during the build; `None`: what the base image says."""


def pinned(name: str, root: Path = ROOT) -> str:
    """Default of the `ARG` of that name in the Dockerfile, the one place that holds the pins.

    Raises:
        UsageError: the Dockerfile has no such line.
    """
    found = re.search(rf"^ARG {name}=(\S+)$", (root / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    if found is None:
        raise UsageError(f"{root / 'Dockerfile'} has no line `ARG {name}=…`: is this a whole checkout?")
    return found.group(1)


def source_date_epoch(root: Path = ROOT) -> int:
    """Seconds since 1970 of the pinned archive state: the time stamp of whatever a build creates."""
    return calendar.timegm(time.strptime(pinned("SNAPSHOT", root), "%Y%m%dT%H%M%SZ"))


def foreign_arch() -> str | None:
    """Architecture that images are built and run for by emulation (`AGENTTRACE_ARCH`); `None`: the engine's own.

    Raises:
        UsageError: the variable names none of `ARCHITECTURES`.
    """
    named = os.environ.get(ARCH_VARIABLE)
    if not named:
        return None
    if named not in ARCHITECTURES:
        raise UsageError(f"{ARCH_VARIABLE} is {named!r}: expected one of {', '.join(ARCHITECTURES)}, or unset it")
    return None if named == engine_arch() else named


def built_arch() -> str:
    """Debian's name of the architecture that images are built for."""
    return foreign_arch() or engine_arch()


def engine_arch() -> str:
    """Debian's name of the engine's own architecture."""
    return engine.run(["docker", "version", "--format", "{{.Server.Arch}}"]).stdout.strip()


def decide() -> Base:
    """Base to build on: the pinned image if it is here or its registry answers within 10 s, else one from mmdebstrap.

    A root file system that mmdebstrap made once is used again; without the image `agenttrace-base` a new one is made.

    Raises:
        UsageError: neither is possible on this machine.
    """
    reference = pinned("BASE")
    if not foreign_arch() and have(reference):  # of another architecture, the engine cannot say whether it has it
        return Base(reference, "registry")
    reason = registry_refusal(reference)
    return Base(reference, "registry") if reason is None else _fallback(reason)


def registry_refusal(reference: str) -> str | None:
    """Why the registry does not give an image within 10 s, or `None` where it does."""
    try:
        engine.run(["docker", "buildx", "imagetools", "inspect", reference], timeout_s=_REGISTRY_TIMEOUT_S)
    except engine.CommandError as error:
        return (error.output.strip().splitlines() or ["no reason given"])[-1].rpartition('": ')[2]
    return None


def ca_bundle(environ: Mapping[str, str] = os.environ, files: tuple[str, ...] = _CA_FILES) -> Path | None:
    """Certificates to trust while an image is built: AGENTTRACE_CA_BUNDLE, what other tools are told, or the system's.

    Raises:
        UsageError: AGENTTRACE_CA_BUNDLE names no file.
    """
    own = environ.get("AGENTTRACE_CA_BUNDLE")
    if own and not expanded(own).is_file():
        raise UsageError(f"AGENTTRACE_CA_BUNDLE names {own}, which is no file: correct or unset it")
    named = (environ.get(name) for name in _CA_VARIABLES)
    return next((path for name in (own, *named, *files) if name and (path := expanded(name)).is_file()), None)


def have(reference: str) -> bool:
    """Whether the engine has an image."""
    return engine.run(["docker", "image", "inspect", "--format", "{{.Id}}", reference], check=False).returncode == 0


def _fallback(reason: str) -> Base:
    if shutil.which("mmdebstrap") is None or shutil.which("apt-get") is None:
        raise UsageError(
            f"the base image cannot be fetched ({reason}). Mend the way to the registry or load the image with "
            "`docker load`; a Debian machine can also make one: `apt-get install mmdebstrap`"
        )
    listed = local_bases()
    if not listed:
        say(f"no registry ({reason}); making a {SUITE} root file system with mmdebstrap")
    source = f"deb {own_mirror()} {SUITE} main\n"
    return Base(listed[0] if listed else _bootstrap(), "mmdebstrap", apt_source=source)


def local_bases() -> list[str]:
    """Names of the root file systems that mmdebstrap made for the architecture of the images, newest first."""
    names = f"{LOCAL_NAME}:{SUITE}-{built_arch()}-*"
    return engine.run(["docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}", names]).stdout.split()


def own_mirror() -> str:
    """Address of the Debian mirror that this machine's apt uses.

    Raises:
        UsageError: apt knows none.
    """
    only = ("Created-By: Packages", "Origin: Debian", "Label: Debian")
    listed = engine.run(["apt-get", "indextargets", "--format", "$(REPO_URI)", *only])
    for uri in listed.stdout.split():
        if uri.startswith(("http://", "https://")):
            return uri.rstrip("/")
    raise UsageError(
        "the base image cannot be fetched, and this machine's apt knows no Debian mirror to make one from: "
        "run `apt-get update` on Debian, or mend the way to the registry"
    )


def _bootstrap() -> str:
    arch = built_arch()
    with tempfile.TemporaryDirectory(prefix="agenttrace-base-") as folder:
        archive = Path(folder, "rootfs.tar")
        reference = f"{LOCAL_NAME}:{SUITE}-{arch}-{make_root(archive)[:12]}"
        platform = ("--platform", f"linux/{arch}")
        engine.run(["docker", "import", *platform, "--change", f"LABEL {PROJECT_LABEL}", str(archive), reference])
    return reference


def make_root(archive: Path) -> str:
    """SHA-256 of a root file system made by mmdebstrap: the same for the same state of this machine's Debian mirror.

    Another architecture than this machine's needs its emulation.

    Args:
        archive: tar file to write.
    """
    engine.run(
        [*_MMDEBSTRAP, f"--architectures={built_arch()}", SUITE, str(archive), own_mirror()],
        env={**os.environ, "SOURCE_DATE_EPOCH": str(source_date_epoch())},
    )
    return sha256_of(archive)
