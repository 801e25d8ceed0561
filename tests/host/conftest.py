"""Images in the OCI format and engines to look at, made without an engine."""

import hashlib
import io
import json
import tarfile
from types import SimpleNamespace

import pytest

from agenttrace.host import engine


def layer(files, *, mode="w"):
    """Bytes of a layer; a file is (path, content, other facts of its tar header)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode, format=tarfile.PAX_FORMAT) as tar:
        for path, content, facts in files:
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            for name, value in facts.items():
                setattr(entry, name, value)
            tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def archive(path, layers, *, config=None):
    blobs = {}

    def put(content):
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        blobs[digest] = content
        return {"digest": digest}

    manifest = {"config": put(json.dumps(config or {}).encode()), "layers": [put(content) for content in layers]}
    described = put(json.dumps(manifest).encode())
    with tarfile.open(path, "w") as tar:
        for name, content in {
            "index.json": json.dumps({"manifests": [described]}).encode(),
            **{f"blobs/{digest.replace(':', '/')}": content for digest, content in blobs.items()},
        }.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


def info(**other):
    facts = {
        "version": "26.1.5", "selinux": False, "unlimited": (), "arch": "amd64", "kernel": "6.1", "rootless": False,
        "cgroup_version": 2, "cgroup_driver": "systemd", "cpus": 2, "memory_bytes": 8 * 2**30,
        "storage_driver": "overlayfs", "containerd_image_store": True, "docker_desktop": False,
        "buildx_version": "0.13.1", "compose_version": "2.26.1",
    }  # fmt: skip
    return engine.EngineInfo(**{**facts, **other})


@pytest.fixture
def oci():
    """Functions that make layers, and archives of images of them."""
    return SimpleNamespace(layer=layer, archive=archive)


@pytest.fixture
def engine_info():
    """Function that makes what an engine says of itself."""
    return info
