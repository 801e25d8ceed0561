"""Two builds are compared, and what differs is said; the archives are real ones of the OCI format."""

import pytest

from agenttrace.errors import UsageError
from agenttrace.host import base, engine, images, rebuild


@pytest.fixture
def builds(oci, engine_info, monkeypatch):
    """Takes the place of the engine: the layers that each build in turn gives."""
    given = []
    monkeypatch.setattr(engine, "check", engine_info)
    monkeypatch.setattr(base, "decide", lambda _report: base.Base("debian:pinned", "registry"))
    monkeypatch.setattr(images, "export", lambda _target, path, **_: oci.archive(path, [given.pop(0)]))
    return given


def test_equal_builds_have_one_digest(oci, builds, tmp_path):
    builds += [oci.layer([("a", b"x", {})])] * 4
    shown = []
    assert rebuild.check_reproducible(("server", "sandbox"), folder=tmp_path, show=shown.append, report=print)
    assert [line.split("  ")[1] for line in shown[:2]] == ["server: equal", "sandbox: equal"]
    assert shown[2:] == ["all equal"]
    assert list(tmp_path.iterdir()) == []


def test_unequal_builds_are_told_to_the_file(oci, builds, tmp_path):
    builds += [oci.layer([("var/log/x", text, {})]) for text in (b"1", b"2")] + [oci.layer([])] * 2
    shown = []
    assert not rebuild.check_reproducible(("server", "sandbox"), folder=tmp_path, show=shown.append, report=print)
    assert shown[0].endswith("server: NOT equal")
    assert shown[1] == "    layer 1: var/log/x: content 6b86b273ff34 / d4735e3a265e"
    assert shown[2].endswith("sandbox: equal")
    assert shown[3:] == ["NOT all equal"]


def test_the_older_image_store_is_refused_with_the_setting_that_changes_it(engine_info, monkeypatch):
    monkeypatch.setattr(engine, "check", lambda: engine_info(containerd_image_store=False))
    with pytest.raises(UsageError, match="containerd-snapshotter"):
        rebuild.check_reproducible(("server",))


def test_a_base_that_is_made_here_is_made_twice(builds, tmp_path, monkeypatch):
    monkeypatch.setattr(base, "decide", lambda _report: base.Base("agenttrace-base:x", "mmdebstrap"))
    monkeypatch.setattr(base, "engine_arch", lambda: "amd64")
    monkeypatch.setattr(base, "own_mirror", lambda: "http://mirror.example/debian")
    digests = ["1" * 64, "2" * 64]

    def make_root(path, _mirror, _arch):
        path.touch()
        return digests.pop()

    monkeypatch.setattr(base, "make_root", make_root)
    shown = []
    assert not rebuild.check_reproducible((), folder=tmp_path, show=shown.append, report=print)
    assert shown[0].endswith("base (mmdebstrap): NOT equal")
