"""Two builds are compared, and the first that differs is said; the archives are real ones of the OCI format."""

import json
import tarfile

import pytest

from agenttrace.errors import UsageError
from agenttrace.host import base, engine, images, rebuild

SAME = ("etc/same", b"same", {})


@pytest.fixture
def builds(oci, engine_info, monkeypatch, tmp_path):
    """Takes the place of the engine: the layers that each build in turn gives; archives go to `tmp_path`."""
    monkeypatch.setattr(rebuild.tempfile, "tempdir", str(tmp_path))
    given = []
    monkeypatch.setattr(engine, "check", engine_info)
    monkeypatch.setattr(base, "decide", lambda: base.Base("debian:pinned", "registry"))
    monkeypatch.setattr(images, "export", lambda _target, path: oci.archive(path, [given.pop(0)]))
    return given


def test_equal_builds_have_one_digest(oci, builds, tmp_path, capsys):
    builds += [oci.layer([("a", b"x", {})])] * 4
    assert rebuild.check_reproducible(("server", "sandbox"))
    shown = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[1] for line in shown[:2]] == ["server: equal", "sandbox: equal"]
    assert shown[2:] == ["all equal"]
    assert list(tmp_path.iterdir()) == []


def test_unequal_builds_are_told_to_the_file(oci, builds, capsys):
    builds += [oci.layer([("var/log/x", text, {})]) for text in (b"1", b"2")] + [oci.layer([])] * 2
    assert not rebuild.check_reproducible(("server", "sandbox"))
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].endswith("server: NOT equal")
    assert shown[1] == "    layer 1: var/log/x: content 6b86b273ff34 / d4735e3a265e"
    assert shown[2].endswith("sandbox: equal")
    assert shown[3:] == ["NOT all equal"]


def test_the_older_image_store_is_refused_with_the_setting_that_changes_it(engine_info, monkeypatch):
    monkeypatch.setattr(engine, "check", lambda: engine_info(containerd_image_store=False))
    with pytest.raises(UsageError, match="containerd-snapshotter"):
        rebuild.check_reproducible(("server",))


def test_a_base_that_is_made_here_is_made_twice(builds, monkeypatch, capsys):
    monkeypatch.setattr(base, "decide", lambda: base.Base("agenttrace-base:x", "mmdebstrap"))
    digests = ["1" * 64, "2" * 64]

    def make_root(path):
        path.touch()
        return digests.pop()

    monkeypatch.setattr(base, "make_root", make_root)
    assert not rebuild.check_reproducible(())
    assert capsys.readouterr().out.splitlines()[0].endswith("base (mmdebstrap): NOT equal")


def told(oci, tmp_path, one, other, **second):
    first = oci.archive(tmp_path / "first", one, config={"created": "now"})
    config = {"config": {"created": "now"}, **second}
    return rebuild.first_difference(first, oci.archive(tmp_path / "second", other, **config))


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (("a", b"x", {}), ("a", b"y", {}), "layer 2: a: content 2d711642b726 / a1fce4363854"),
        (("a", b"x", {}), ("a", b"xy", {}), "layer 2: a: size 1 / 2, content 2d711642b726 / 769a4e6d0003"),
        (("a", b"", {"mtime": 1}), ("a", b"", {"mtime": 2}), "layer 2: a: mtime 1 / 2"),
        (("a", b"", {"mode": 0o644}), ("a", b"", {"mode": 0o755}), "layer 2: a: mode 0644 / 0755"),
        (("a", b"", {"uid": 0}), ("a", b"", {"uid": 7}), "layer 2: a: uid 0 / 7"),
        (
            ("a", b"", {"pax_headers": {"SCHILY.xattr.user.k": "1"}}),
            ("a", b"", {"pax_headers": {"SCHILY.xattr.user.k": "2"}}),
            "layer 2: a: attributes {'SCHILY.xattr.user.k': '1'} / {'SCHILY.xattr.user.k': '2'}",
        ),
        (
            ("a", b"", {"type": tarfile.SYMTYPE, "linkname": "b"}),
            ("a", b"", {"type": tarfile.SYMTYPE, "linkname": "c"}),
            "layer 2: a: linkname b / c",
        ),
    ],
)
def test_the_first_file_that_differs_is_named_with_what_differs(oci, tmp_path, one, other, expected):
    below = oci.layer([SAME])
    ours, theirs = (oci.layer([SAME, file, ("z", file[0].encode(), {})]) for file in (one, other))
    assert told(oci, tmp_path, [below, ours], [below, theirs]) == expected


def test_a_file_of_only_one_image_is_named(oci, tmp_path):
    whole, less = oci.layer([SAME, ("a", b"", {})]), oci.layer([SAME])
    assert told(oci, tmp_path, [whole], [less]) == "layer 1: a in the first, nothing in the second"
    assert told(oci, tmp_path, [less], [whole]) == "layer 1: nothing in the first, a in the second"


def test_order_and_encoding_are_told_apart(oci, tmp_path):
    files = [SAME, ("a", b"", {})]
    other = oci.layer(files[::-1])
    assert told(oci, tmp_path, [oci.layer(files)], [other]) == "layer 1: etc/same in the first, a in the second"
    packed = oci.layer(files, mode="w:gz")
    assert told(oci, tmp_path, [oci.layer(files)], [packed]) == "layer 1: the same files, encoded in another way"


def test_layers_and_settings_are_compared(oci, tmp_path):
    assert told(oci, tmp_path, [oci.layer([SAME])], []) == "layer 1: only in the first"
    assert told(oci, tmp_path, [], [], config={"created": "later"}) == "settings: created"


def test_the_digest_is_that_of_the_manifest(oci, tmp_path):
    digest = rebuild.image_digest(oci.archive(tmp_path / "image", [oci.layer([SAME])]))
    with tarfile.open(tmp_path / "image") as tar:
        index = json.load(tar.extractfile("index.json"))
    assert digest == index["manifests"][0]["digest"]
