"""Builds images twice from scratch and compares them; where two differ, it names the first path that does.

They are compared as archives of the OCI image specification 1.1: https://github.com/opencontainers/image-spec.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
import tempfile
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agenttrace.errors import UsageError
from agenttrace.show import say

from . import base as bases
from . import engine, images

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_NO_STORE = (
    "this engine keeps images in its older store, which cannot clamp the time stamps of a build. Put "
    '{"features": {"containerd-snapshotter": true}} into /etc/docker/daemon.json (Docker Desktop: Settings, General, '
    "`Use containerd for pulling and storing images`) and restart the engine; its images are then built again"
)


def check_reproducible(targets: Sequence[str] = images.ALL_TARGETS) -> bool:
    """Print for each image whether two builds from scratch have one digest, and return whether all have.

    Under an unequal one stands the first difference. Where the base is made here, it is made twice as well. Archives
    lie in the system's folder for temporary files, at most two at a time.

    Args:
        targets: some of `images.ALL_TARGETS`.

    Raises:
        UsageError: the engine cannot export images with clamped time stamps; the message says what to do.
        ImageBuildError: a build failed.
    """
    if not engine.check().containerd_image_store:
        raise UsageError(_NO_STORE)
    equal = True
    with tempfile.TemporaryDirectory(prefix="agenttrace-rebuild-") as work:
        if bases.decide().origin == "mmdebstrap":
            equal &= _check_base(Path(work))
        for target in targets:
            equal &= _check_image(target, Path(work))
    print("all equal" if equal else "NOT all equal")  # noqa: T201 - the verb's result
    return equal


def _check_base(work: Path) -> bool:
    found = []
    for turn in ("first", "second"):
        say(f"making the base, {turn} time")
        found.append(bases.make_root(work / "rootfs.tar"))
        (work / "rootfs.tar").unlink()
    return _print("base (mmdebstrap)", [f"sha256:{digest}" for digest in found])


def _check_image(target: str, work: Path) -> bool:
    archives = [work / f"{target}-{turn}.tar" for turn in ("first", "second")]
    for archive in archives:
        images.export(target, archive)
    equal = _print(target, [image_digest(archive) for archive in archives])
    if not equal:
        print(f"    {first_difference(*archives)}")  # noqa: T201
    for archive in archives:
        archive.unlink()
    return equal


def _print(name: str, digests: Sequence[str]) -> bool:
    equal = len(set(digests)) == 1
    print(f"{digests[0]}  {name}: equal" if equal else f"{digests[0]} / {digests[1]}  {name}: NOT equal")  # noqa: T201
    return equal


def image_digest(archive: Path) -> str:
    """Digest of the image in an OCI archive: what a registry calls it by."""
    with tarfile.open(archive) as tar:
        return str(_json(tar, "index.json")["manifests"][0]["digest"])


def first_difference(first: Path, second: Path) -> str:
    """Where two images part: layer, path and what differs about it, or else the settings that differ.

    Args:
        first: OCI archive with one image.
        second: the other one.
    """
    with tarfile.open(first) as one, tarfile.open(second) as other:
        ours, theirs = (_json(tar, _blob(image_digest(path))) for tar, path in ((one, first), (other, second)))
        for number, layers in enumerate(zip_longest(ours["layers"], theirs["layers"]), start=1):
            if None in layers:
                return f"layer {number}: only in the {'second' if layers[0] is None else 'first'}"
            mine, yours = (layer["digest"] for layer in layers)
            if mine != yours:
                return f"layer {number}: {_first_path(_entries(one, mine), _entries(other, yours))}"
        settings = [_json(one, _blob(ours["config"]["digest"])), _json(other, _blob(theirs["config"]["digest"]))]
    differ = [key for key in settings[0] if settings[0][key] != settings[1].get(key)]
    return f"settings: {', '.join(differ)}"


def _first_path(ours: Iterator[dict[str, Any]], theirs: Iterator[dict[str, Any]]) -> str:
    for one, other in zip_longest(ours, theirs, fillvalue={"name": "nothing"}):
        if one["name"] != other["name"]:
            return f"{one['name']} in the first, {other['name']} in the second"
        if facts := [fact for fact in one if one[fact] != other[fact]]:
            return f"{one['name']}: {', '.join(f'{fact} {one[fact]} / {other[fact]}' for fact in facts)}"
    return "the same files, encoded in another way"


def _entries(image: tarfile.TarFile, layer: str) -> Iterator[dict[str, Any]]:
    """Facts about each path of a layer, in the order of the archive, which may be compressed."""
    with tarfile.open(fileobj=image.extractfile(_blob(layer)), mode="r|*") as files:
        for entry in files:
            content = files.extractfile(entry) if entry.isreg() else None
            digest = "" if content is None else hashlib.sha256(content.read()).hexdigest()[:12]
            attributes = {key: text for key, text in entry.pax_headers.items() if key.startswith("SCHILY.xattr.")}
            found = {**entry.get_info(), "mode": f"{entry.mode:04o}", "attributes": attributes, "content": digest}
            del found["chksum"]  # of the header
            yield found


def _json(image: tarfile.TarFile, name: str) -> Any:  # noqa: ANN401
    file = image.extractfile(name)
    return None if file is None else json.load(file)


def _blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"
