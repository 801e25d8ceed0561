"""A release's signature holds for its key or identity and these files alone; everything else is refused by name."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from agenttrace.errors import DataError, StorageError, UsageError
from agenttrace.publish.archive import pack
from agenttrace.publish.signature import PASSWORD, TOKEN, Trusted, sign, signed_by
from agenttrace.publish.sums import MANIFEST, SIGNATURE
from agenttrace.verbs import release as verb
from tests.publish import sigstore_instance

RELEASED = Path(__file__).parents[2] / "datasets" / "agenttrace-demo"
KINDS = {
    "ecdsa": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "rsa": lambda: rsa.generate_private_key(65537, 2048),
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
}
WHO, ISSUER = "ada@example.org", "https://accounts.example.org"


class Pair:
    """The two PEM files of a new key."""

    def __init__(self, folder, kind, password=None):
        folder.mkdir(exist_ok=True)
        key = KINDS[kind]()
        self.private, self.public = folder / f"{kind}.pem", folder / f"{kind}.pub"
        locked = NoEncryption() if password is None else BestAvailableEncryption(password.encode())
        self.private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked))
        self.public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))

    @property
    def trusted(self):
        return Trusted(public_key=self.public)


@pytest.fixture(params=["ecdsa", "ed25519"])
def pair(request, tmp_path):
    return Pair(tmp_path / "keys", request.param)


@pytest.fixture
def manifest(tmp_path):
    """A folder with the manifest of the demo release, which is all that is signed."""
    (tmp_path / "release").mkdir()
    shutil.copy(RELEASED / MANIFEST, tmp_path / "release")
    return tmp_path / "release"


def test_a_signature_is_of_its_key_and_the_same_every_time(pair, manifest, tmp_path):
    who = sign(manifest, key=pair.private)
    assert who.startswith("the key ")
    assert signed_by(manifest, pair.trusted) == who
    first = (manifest / SIGNATURE).read_bytes()
    with pytest.raises(UsageError, match="signed already; remove that file to sign it again"):
        sign(manifest, key=pair.private)
    (manifest / SIGNATURE).unlink()
    sign(manifest, key=pair.private)
    assert (manifest / SIGNATURE).read_bytes() == first
    assert json.loads(first)["mediaType"] == "application/vnd.dev.sigstore.bundle.v0.3+json"


def test_no_byte_of_a_signature_can_be_another(pair, manifest):
    sign(manifest, key=pair.private)
    data = (manifest / SIGNATURE).read_bytes()
    for at in range(len(data)):
        for bit in (1, 0x20):
            (manifest / SIGNATURE).write_bytes(data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :])
            with pytest.raises(DataError):
                signed_by(manifest, pair.trusted)
    (manifest / SIGNATURE).write_bytes(data)
    assert signed_by(manifest, pair.trusted)


def test_a_changed_manifest_and_the_signature_of_another_release_are_refused(pair, manifest):
    sign(manifest, key=pair.private)
    data = (manifest / MANIFEST).read_bytes()
    for at in range(0, len(data), 997):
        (manifest / MANIFEST).write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(DataError, match=r"is of another manifest\.json than this one: that of another release"):
            signed_by(manifest, pair.trusted)


def test_another_key_is_named_with_the_one_that_signed(pair, manifest, tmp_path):
    who = sign(manifest, key=pair.private)
    for kind in ("ecdsa", "ed25519"):
        other = Pair(tmp_path / "others", kind)
        with pytest.raises(DataError) as refused:
            signed_by(manifest, other.trusted)
        assert f"was made by another key ({who.removeprefix('the key ')})" in str(refused.value)
    forged = json.loads((manifest / SIGNATURE).read_bytes())
    sign(shutil.copytree(manifest, tmp_path / "forged", ignore=lambda *_: [SIGNATURE]), key=other.private)
    of_other = json.loads((tmp_path / "forged" / SIGNATURE).read_bytes())
    forged["messageSignature"] = of_other["messageSignature"]  # by another key, under the name of the first
    (manifest / SIGNATURE).write_text(json.dumps(forged))
    with pytest.raises(DataError, match="is no signature of this key"):
        signed_by(manifest, pair.trusted)


@pytest.mark.parametrize(
    ("bundle", "message"),
    [
        ("", "is no Sigstore bundle over one file"),
        ("{}", "is no Sigstore bundle over one file"),
        ("[" * 100_000, "is no Sigstore bundle over one file"),
        ('{"a": "\ud800"}', "is no Sigstore bundle over one file"),
        ("x" * (2 << 20), "has more than 1048576 bytes"),
    ],
)
def test_what_is_no_bundle_is_refused(bundle, message, manifest, tmp_path):
    (manifest / SIGNATURE).write_bytes(bundle.encode("utf-8", "surrogatepass"))
    with pytest.raises(DataError, match=message):
        signed_by(manifest, Pair(tmp_path / "keys", "ed25519").trusted)


def test_a_link_in_place_of_a_signature_is_none(pair, manifest, tmp_path):
    sign(manifest, key=pair.private)
    (manifest / SIGNATURE).rename(tmp_path / "elsewhere")
    (manifest / SIGNATURE).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="is missing: the release is not signed"):
        signed_by(manifest, pair.trusted)
    with pytest.raises(UsageError, match="signed already"):
        sign(manifest, key=pair.private)


@pytest.mark.parametrize("kind", ["rsa", "p384"])
def test_keys_of_other_kinds_are_refused_on_both_sides(kind, manifest, tmp_path):
    made = Pair(tmp_path / "keys", kind)
    with pytest.raises(UsageError, match=r"--key .*: holds another kind of key; expected an ECDSA key on P-256"):
        sign(manifest, key=made.private)
    with pytest.raises(UsageError, match=r"--public-key .*: holds another kind of key"):
        signed_by(manifest, made.trusted)
    assert not (manifest / SIGNATURE).exists()


def test_a_locked_key_takes_its_password_from_the_variable(manifest, tmp_path, monkeypatch):
    made = Pair(tmp_path / "keys", "ecdsa", password="a secret")
    monkeypatch.delenv(PASSWORD, raising=False)
    with pytest.raises(UsageError, match=PASSWORD):
        sign(manifest, key=made.private)
    monkeypatch.setenv(PASSWORD, "another")
    with pytest.raises(UsageError, match="or the password is another") as refused:
        sign(manifest, key=made.private)
    assert "another secret" not in str(refused.value)
    monkeypatch.setenv(PASSWORD, "")
    with pytest.raises(UsageError, match="Password was not given"):
        sign(manifest, key=made.private)
    monkeypatch.setenv(PASSWORD, "a secret")
    sign(manifest, key=made.private)
    assert signed_by(manifest, made.trusted)


def test_what_is_no_key_is_told(manifest, tmp_path, pair):
    (tmp_path / "text").write_text("-----BEGIN")
    with pytest.raises(UsageError, match="holds no private key that can be read"):
        sign(manifest, key=tmp_path / "text")
    with pytest.raises(UsageError, match="holds no public key that can be read"):
        signed_by(manifest, Trusted(public_key=tmp_path / "text"))
    with pytest.raises(UsageError, match="holds a private key; its public half: openssl pkey -in"):
        signed_by(manifest, Trusted(public_key=pair.private))
    with pytest.raises(UsageError, match="No such file"):
        sign(manifest, key=tmp_path / "absent")


def test_cosign_takes_what_a_key_signed(pair, manifest, tmp_path):
    """Its own check of a bundle, offline; it asks for a trust root even where a key is named."""
    if (cosign := shutil.which("cosign")) is None:
        pytest.skip("no cosign on this machine: apt-get install cosign, or https://github.com/sigstore/cosign")
    sign(manifest, key=pair.private)
    trust = tmp_path / "root.json"
    trust.write_text(json.dumps(sigstore_instance.Instance().trust_config()["trustedRoot"]))
    argv = [cosign, "verify-blob", "--new-bundle-format", "--insecure-ignore-tlog", "--trusted-root", str(trust)]
    argv += ["--key", str(pair.public), "--bundle", str(manifest / SIGNATURE), str(manifest / MANIFEST)]
    ended = subprocess.run(argv, capture_output=True, text=True)
    assert (ended.returncode, "Verified OK" in ended.stderr) == (0, True), ended.stderr
    (manifest / MANIFEST).write_bytes((manifest / MANIFEST).read_bytes() + b" ")
    assert subprocess.run(argv, capture_output=True, text=True).returncode != 0


@pytest.fixture
def instance(tmp_path):
    with sigstore_instance.running() as running:
        (tmp_path / "trust.json").write_text(json.dumps(running.trust_config()))
        yield running


def by(tmp_path, identity=WHO, issuer=ISSUER):
    return Trusted(identity=identity, issuer=issuer, trust_config=tmp_path / "trust.json")


@pytest.fixture
def signed(instance, manifest, tmp_path, monkeypatch):
    """A manifest that an identity signed; Sigstore is gone since."""
    monkeypatch.setenv(TOKEN, sigstore_instance.token(WHO, ISSUER))
    assert sign(manifest, trust_config=tmp_path / "trust.json") == f"{WHO} ({ISSUER})"
    instance.refuse = 503
    return manifest


def test_an_identity_signs_by_its_token_and_is_checked_offline(signed, tmp_path):
    assert signed_by(signed, by(tmp_path)) == f"{WHO} ({ISSUER})"


@pytest.mark.parametrize(
    ("identity", "issuer"), [("eve@example.org", ISSUER), (WHO, "https://other.example.org"), ("", ISSUER)]
)
def test_somebody_else_is_refused(signed, tmp_path, identity, issuer):
    with pytest.raises(DataError, match="is refused for"):
        signed_by(signed, by(tmp_path, identity, issuer))


def test_the_authority_must_be_the_one_that_is_trusted(signed, tmp_path):
    (tmp_path / "trust.json").write_text(json.dumps(sigstore_instance.Instance().trust_config()))
    with pytest.raises(DataError, match="is refused for"):
        signed_by(signed, by(tmp_path))
    with pytest.raises(DataError, match="is refused for"):
        signed_by(signed, Trusted(identity=WHO, issuer=ISSUER))  # the public one, as the library has it with it


@pytest.mark.parametrize(
    "path",
    [
        ("messageSignature", "signature"), ("verificationMaterial", "certificate", "rawBytes"),
        ("verificationMaterial", "tlogEntries", 0, "inclusionPromise", "signedEntryTimestamp"),
        ("verificationMaterial", "tlogEntries", 0, "canonicalizedBody"),
        ("verificationMaterial", "tlogEntries", 0, "inclusionProof", "rootHash"),
    ],
)  # fmt: skip
def test_a_changed_part_of_an_identitys_signature_is_refused(signed, tmp_path, path):
    bundle = json.loads((signed / SIGNATURE).read_bytes())
    *above, last = path
    place = bundle
    for step in above:
        place = place[step]
    text = place[last]
    place[last] = text[:40] + ("A" if text[40] != "A" else "B") + text[41:]
    (signed / SIGNATURE).write_text(json.dumps(bundle))
    with pytest.raises(DataError):
        signed_by(signed, by(tmp_path))


def test_a_key_is_no_identity_and_an_identity_no_key(signed, pair, tmp_path):
    with pytest.raises(DataError, match="by an identity and not by a key: name --identity and --issuer"):
        signed_by(signed, pair.trusted)
    (signed / SIGNATURE).unlink()
    sign(signed, key=pair.private)
    with pytest.raises(DataError, match="by a key and not by an identity: name --public-key"):
        signed_by(signed, by(tmp_path))


def test_cosign_takes_what_an_identity_signed(signed, instance, tmp_path):
    if (cosign := shutil.which("cosign")) is None:
        pytest.skip("no cosign on this machine: apt-get install cosign, or https://github.com/sigstore/cosign")
    root = tmp_path / "root.json"
    root.write_text(json.dumps(instance.trust_config()["trustedRoot"]))
    argv = [cosign, "verify-blob", "--new-bundle-format", "--trusted-root", str(root), "--certificate-oidc-issuer"]
    argv += [ISSUER, "--certificate-identity", WHO, "--bundle", str(signed / SIGNATURE), str(signed / MANIFEST)]
    ended = subprocess.run(argv, capture_output=True, text=True)
    assert (ended.returncode, "Verified OK" in ended.stderr) == (0, True), ended.stderr


@pytest.mark.parametrize("raw", ["no token", sigstore_instance.token(WHO, ISSUER, seconds=-60)])
def test_without_a_good_token_nothing_is_signed(raw, instance, manifest, tmp_path, monkeypatch):
    monkeypatch.setenv(TOKEN, raw)
    with pytest.raises(StorageError, match=r"Sigstore did not sign: .*; nothing was written"):
        sign(manifest, trust_config=tmp_path / "trust.json")
    assert not (manifest / SIGNATURE).exists()


def test_a_sigstore_that_refuses_or_is_gone_signs_nothing(instance, manifest, tmp_path, monkeypatch):
    monkeypatch.setenv(TOKEN, sigstore_instance.token(WHO, ISSUER))
    instance.refuse = 500
    with pytest.raises(StorageError, match="Sigstore did not sign"):
        sign(manifest, trust_config=tmp_path / "trust.json")
    gone = json.loads(json.dumps(instance.trust_config()).replace(instance.url, "http://127.0.0.1:1"))
    (tmp_path / "trust.json").write_text(json.dumps(gone))
    with pytest.raises(StorageError, match="Sigstore did not sign"):
        sign(manifest, trust_config=tmp_path / "trust.json")
    (tmp_path / "trust.json").write_text("{}")
    with pytest.raises(UsageError, match="--trust-config"):
        sign(manifest, trust_config=tmp_path / "trust.json")
    assert not (manifest / SIGNATURE).exists()


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The demo release, copied elsewhere and signed; and the key."""
    folder = tmp_path_factory.mktemp("elsewhere")
    shutil.copytree(RELEASED, folder / "demo")
    made = Pair(folder / "keys", "ed25519")
    sign(folder / "demo", key=made.private)
    return folder / "demo", made


def test_a_release_is_signed_and_checked_by_the_verb(agenttrace, tmp_path):
    copied = shutil.copytree(RELEASED, tmp_path / "copy")
    made = Pair(tmp_path / "keys", "ecdsa")
    asked = ("release", "--verify", copied, "--public-key", made.public)
    ended = agenttrace(*asked)
    assert ended.returncode == 1
    assert f"{SIGNATURE}: is missing: the release is not signed" in ended.stdout
    ended = agenttrace("release", "--sign", copied, "--key", made.private)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert f"{copied / SIGNATURE}: signed by the key " in ended.stdout
    ended = agenttrace(*asked, "--json", tmp_path / "found.json")
    assert ended.returncode == 0
    assert "whole: files, records, run spec, cassette, verdicts, tables, card, signature of the key " in ended.stdout
    assert json.loads((tmp_path / "found.json").read_bytes())["signed_by"].startswith("the key ")
    ended = agenttrace("release", "--verify", copied)
    assert ended.returncode == 0
    assert f"{SIGNATURE}: not looked at (--public-key FILE" in ended.stdout


def changed(folder):
    path = folder / "records" / "agenttrace-demo.jsonl"
    path.write_bytes(path.read_bytes().replace(b"0", b"1", 1))


def forged(folder):
    """Somebody who changes a file and makes the manifest fit cannot make the signature fit."""
    changed(folder)
    path = folder / MANIFEST
    path.write_bytes(path.read_bytes().replace(b"agenttrace-demo", b"agenttrace-dema", 1))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (changed, "records/agenttrace-demo.jsonl: its SHA-256 is"),
        (forged, f"{SIGNATURE}: is of another {MANIFEST} than this one"),
        (lambda folder: (folder / "data" / "more").touch(), "data/more: is not in the manifest"),
        (lambda folder: (folder / "README.md").unlink(), "README.md: is missing"),
        (lambda folder: (folder / MANIFEST).unlink(), f"{SIGNATURE}: is of a {MANIFEST} that is not there"),
        (lambda folder: Pair(folder.parent / "keys", "ed25519"), f"{SIGNATURE}: was made by another key"),
    ],
)
def test_every_damage_of_a_signed_release_is_refused_by_name(damage, said, demo, agenttrace, tmp_path):
    copied = shutil.copytree(demo[0], tmp_path / "demo")
    public = Path(shutil.copytree(demo[1].public.parent, tmp_path / "keys")) / demo[1].public.name
    damage(copied)
    ended = agenttrace("release", "--verify", copied, "--public-key", public)
    assert ended.returncode == 1
    assert said in ended.stdout
    assert "NOT whole" in ended.stdout


def test_a_release_that_is_not_whole_is_not_signed(demo, agenttrace, tmp_path):
    copied = shutil.copytree(demo[0], tmp_path / "demo", ignore=lambda *_: [SIGNATURE])
    (copied / "README.md").unlink()
    ended = agenttrace("release", "--sign", copied, "--key", demo[1].private)
    assert ended.returncode == 1
    assert "not whole, so it was not signed" in ended.stderr
    assert not (copied / SIGNATURE).exists()


def test_a_packed_release_brings_its_signature(demo, tmp_path):
    pack(demo[0], tmp_path / "demo.zip")
    with zipfile.ZipFile(tmp_path / "demo.zip") as packed:
        packed.extractall(tmp_path)
    assert signed_by(tmp_path / "demo", demo[1].trusted)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--verify", "d", "--sign", "d"), "one command each"),
        (("--sign", "d", "-o", "out"), "give it without FILE and -o"),
        (("--sign", "d", "--json"), "who signed one, --verify says"),
        (("--key", "k"), "--key FILE is what --sign DIR signs with"),
        (("--verify", "d", "--key", "k"), "a signature is checked with --public-key FILE"),
        (("--sign", "d", "--public-key", "k"), "say whose signature --verify DIR asks for"),
        (("--verify", "d", "--identity", "w"), "--identity WHO and --issuer URL go together"),
        (("--verify", "d", "--issuer", "u"), "--identity WHO and --issuer URL go together"),
        (("--verify", "d", "--identity", "w", "--issuer", "u", "--public-key", "k"), "by one of both"),
        (("--sign", "d", "--key", "k", "--trust-config", "t"), "a key needs none"),
    ],
)
def test_options_that_do_not_go_together_are_refused(words, message, agenttrace):
    ended = agenttrace("release", *words)
    assert (ended.returncode, message in ended.stderr) == (2, True), ended.stderr


@pytest.fixture
def started(monkeypatch):
    """What the host starts in a container instead of running it."""
    seen = []

    def run(name, argv, *, read, written):
        seen.append((argv, read, written))
        return 0

    monkeypatch.setattr("agenttrace.host.analysis.run", run)
    return seen


def on_host(*words):
    parser = argparse.ArgumentParser()
    verb.add(parser)
    argv = [*map(str, words)]
    return verb.on_host("release", parser.parse_args(argv), argv)


def test_no_container_sees_a_key_and_a_signature_is_checked_before_one_starts(started, manifest, tmp_path):
    made = Pair(tmp_path / "keys", "ecdsa")
    assert on_host("--sign", manifest, "--key", made.private) == 0
    ((argv, read, written),) = started
    assert (argv, read, written) == (["--verify", str(manifest)], [manifest], [])
    assert signed_by(manifest, made.trusted)
    assert on_host("--verify", manifest, "--public-key", made.public) == 0
    assert started[1][0][-1].startswith("--signature-found=signed:the key ")
    assert started[1][1] == [manifest]  # nor what lies beside the public one, whose name may begin as it does
    (manifest / SIGNATURE).unlink()
    assert on_host("--verify", manifest, "--public-key", made.public) == 0
    assert started[2][0][-1] == "--signature-found=refused:is missing: the release is not signed"


def test_what_a_container_finds_damaged_is_not_signed(started, manifest, tmp_path, monkeypatch):
    monkeypatch.setattr("agenttrace.host.analysis.run", lambda *_, **__: 1)
    assert on_host("--sign", manifest, "--key", Pair(tmp_path / "keys", "ecdsa").private) == 1
    assert not (manifest / SIGNATURE).exists()


def test_without_the_extra_the_way_to_it_is_told(manifest, tmp_path, monkeypatch):
    made = Pair(tmp_path / "keys", "ecdsa")
    for name in ("cryptography.exceptions", "sigstore.oidc"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match=r"in the checkout, pip install '\.\[sign\]'"):
        sign(manifest, key=made.private)
    with pytest.raises(UsageError, match=r"in the checkout, pip install '\.\[sign\]'"):
        sign(manifest)
