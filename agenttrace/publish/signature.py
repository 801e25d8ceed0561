"""Signs a release and checks signatures: a Sigstore bundle over its manifest, which has every other file's digest.

One signature over one file is what the plain commands of others check (`cosign verify-blob`, `sigstore verify
identity`); that all other files are those of the manifest, `verify` says. A statement that lists the files once more
(in-toto, DSSE) would be a second manifest that can differ from the first. Source: sigstore/protobuf-specs,
`sigstore_bundle.proto`, bundle v0.3.

`cryptography` signs with a key of the user's own and checks it, without a network; `sigstore` does the same for people
and workflows that an OpenID provider names. Both come with the extra `sign`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import logging
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from agenttrace.errors import DataError, StorageError, UsageError, with_extra
from agenttrace.publish.sums import MANIFEST, SIGNATURE
from agenttrace.records.base import Record
from agenttrace.store.jsonl import write_whole
from agenttrace.store.opening import content

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
    from sigstore.models import ClientTrustConfig

    PrivateKey = EllipticCurvePrivateKey | Ed25519PrivateKey
    PublicKey = EllipticCurvePublicKey | Ed25519PublicKey

PASSWORD = "AGENTTRACE_KEY_PASSWORD"  # noqa: S105 - the name of a variable
TOKEN = "SIGSTORE_IDENTITY_TOKEN"  # noqa: S105 - likewise
_BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_SHA256 = "SHA2_256"
_LARGEST = 1 << 20
"""Bytes of a bundle or a key; that of a log entry with its proof has about 6,000."""
_KINDS = "an ECDSA key on P-256 or an Ed25519 key in PEM form"


class Trusted(Record, frozen=True, kw_only=True):
    """Whose signature is asked for: that of a key, or of an identity.

    Attributes:
        public_key: PEM file.
        identity: e-mail address, or address of a workflow, as its provider writes it.
        issuer: address of that provider.
        trust_config: of a Sigstore instance of one's own; without it the public one, as `sigstore` has it with it.
    """

    public_key: Path | None = None
    identity: str | None = None
    issuer: str | None = None
    trust_config: Path | None = None


class _Hint(msgspec.Struct, frozen=True):
    hint: str


class _Material(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    public_key: _Hint | None = None


class _Digest(msgspec.Struct, frozen=True):
    algorithm: str
    digest: str


class _Message(msgspec.Struct, frozen=True, rename="camel"):
    message_digest: _Digest
    signature: str


class _Bundle(msgspec.Struct, frozen=True, rename="camel"):
    media_type: str
    verification_material: _Material
    message_signature: _Message


def sign(folder: Path, *, key: Path | None = None, trust_config: Path | None = None) -> str:
    """Write the signature of a release beside its manifest and return who signed.

    Args:
        folder: a release, seen to be whole.
        key: private key, PEM; without one the signer's OpenID provider says who signs (the token in `TOKEN`, an ambient
            identity such as that of a workflow, else a browser), and that stands in a public log with the signature.
        trust_config: see `Trusted`.

    Raises:
        UsageError: it is signed already, the key cannot be used, or what signs is not installed.
        StorageError: Sigstore cannot be reached or refuses, or the file cannot be written.
    """
    target = folder / SIGNATURE
    if os.path.lexists(target):
        raise UsageError(f"{target}: the release is signed already; remove that file to sign it again")
    data = content(folder / MANIFEST)
    bundle, who = _by_key(data, key) if key is not None else _by_identity(data, trust_config)
    write_whole(target, bundle)
    return who


def signed_by(folder: Path, trusted: Trusted) -> str:
    """Return who signed a release, where that is who is trusted; nothing outside of the machine is asked.

    Args:
        folder: the release; that its other files are those of its manifest is seen elsewhere (`release.verify`).
        trusted: whose signature it must be.

    Raises:
        UsageError: the public key cannot be read, or what checks is not installed.
        DataError: why the signature is refused.
    """
    public = None if trusted.public_key is None else _public_key(trusted.public_key)
    path = folder / SIGNATURE
    if path.is_symlink() or not path.is_file():
        raise DataError("is missing: the release is not signed")
    raw = content(path, most=_LARGEST)
    if not (folder / MANIFEST).is_file():
        raise DataError(f"is of a {MANIFEST} that is not there")
    data = content(folder / MANIFEST)
    try:
        found = msgspec.json.decode(raw, type=_Bundle)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"is no Sigstore bundle over one file: {error}") from error
    stated = found.message_signature.message_digest
    if stated.algorithm != _SHA256 or _bytes(stated.digest) != hashlib.sha256(data).digest():
        raise DataError(f"is of another {MANIFEST} than this one: that of another release, or one that was changed")
    if public is not None:
        return _checked_key(found, public, data)
    return _checked_identity(raw, found, data, trusted)


def _checked_key(found: _Bundle, public: PublicKey, data: bytes) -> str:
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - of the extra
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    if found.media_type != _BUNDLE:
        raise DataError(f"has the media type {found.media_type[:100]!r}, expected was {_BUNDLE}")
    named = found.verification_material.public_key
    if named is None:
        raise DataError("was made by an identity and not by a key: name --identity and --issuer")
    if named.hint != (hint := _hint(public)):
        raise DataError(f"was made by another key ({named.hint[:100]}) than the one that is named ({hint})")
    signature = _bytes(found.message_signature.signature)
    try:
        if isinstance(public, ec.EllipticCurvePublicKey):
            public.verify(signature, data, ec.ECDSA(hashes.SHA256()))
        else:
            public.verify(signature, data)
    except InvalidSignature as error:
        raise DataError(f"is no signature of this key over this {MANIFEST}") from error
    return f"the key {hint}"


def _checked_identity(raw: bytes, found: _Bundle, data: bytes, trusted: Trusted) -> str:
    if found.verification_material.public_key is not None:
        raise DataError("was made by a key and not by an identity: name --public-key")
    with _installed():
        from sigstore.models import Bundle  # noqa: PLC0415
        from sigstore.verify import Verifier  # noqa: PLC0415
        from sigstore.verify.policy import Identity  # noqa: PLC0415

    verifier = Verifier(trusted_root=_trust(trusted.trust_config, offline=True).trusted_root)
    try:
        identity = Identity(identity=str(trusted.identity), issuer=trusted.issuer)
        verifier.verify_artifact(data, Bundle.from_json(raw), identity)
    except Exception as error:  # certificate and log entry are anybody's: what they can make the library raise is open
        raise DataError(f"is refused for {trusted.identity} ({trusted.issuer}): {_said(error)}") from error
    return f"{trusted.identity} ({trusted.issuer})"


def _by_key(data: bytes, path: Path) -> tuple[bytes, str]:
    private = _private_key(path)
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415 - of the extra
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    if isinstance(private, ec.EllipticCurvePrivateKey):  # as RFC 6979 has it: the same release, the same bytes
        signature = private.sign(data, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
    else:
        signature = private.sign(data)
    hint = _hint(private.public_key())
    digest = _Digest(algorithm=_SHA256, digest=_text(hashlib.sha256(data).digest()))
    bundle = _Bundle(
        media_type=_BUNDLE,
        verification_material=_Material(public_key=_Hint(hint=hint)),
        message_signature=_Message(message_digest=digest, signature=_text(signature)),
    )
    return msgspec.json.encode(bundle), f"the key {hint}"


def _by_identity(data: bytes, trust_config: Path | None) -> tuple[bytes, str]:
    with _installed():
        from sigstore.oidc import IdentityToken, Issuer, detect_credential  # noqa: PLC0415
        from sigstore.sign import SigningContext  # noqa: PLC0415

    try:
        trust = _trust(trust_config, offline=False)
        raw = os.environ.get(TOKEN) or detect_credential()
        token = IdentityToken(raw) if raw else Issuer(trust.signing_config.get_oidc_url()).identity_token()
        with SigningContext.from_trust_config(trust).signer(token) as signer:
            bundle = signer.sign_artifact(data)
    except UsageError:
        raise
    except Exception as error:  # the library's clients raise errors that have no root in common
        raise StorageError(f"Sigstore did not sign: {_said(error)}; nothing was written") from error
    return bundle.to_json().encode(), f"{token.identity} ({token.federated_issuer})"


def _trust(path: Path | None, *, offline: bool) -> ClientTrustConfig:
    with _installed():
        from sigstore.errors import Error  # noqa: PLC0415
        from sigstore.models import ClientTrustConfig  # noqa: PLC0415

    if path is None:
        logging.getLogger("sigstore").setLevel(logging.ERROR)  # it warns of being offline, which is what is wanted
        return ClientTrustConfig.production(offline=offline)
    try:
        return ClientTrustConfig.from_json(content(path).decode())
    except (Error, ValueError, DataError) as error:
        raise UsageError(f"--trust-config {path}: {_said(error)}") from error


def _said(error: BaseException) -> str:
    """Return what an error of a library says, on one line, or what it is."""
    return " ".join(str(error).split())[:500] or type(error).__name__


@contextmanager
def _installed() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise UsageError(
            f"signatures need what the extra `sign` installs ({error.name} is not there): {with_extra('sign')}"
        ) from error


def _private_key(path: Path) -> PrivateKey:
    with _installed():
        from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519  # noqa: PLC0415
        from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    password = os.environ.get(PASSWORD) or None
    try:
        key = load_pem_private_key(_pem(path), None if password is None else password.encode())
    except TypeError as error:  # encrypted and no password, or the reverse
        raise UsageError(f"--key {path}: {error}; its password is taken from the variable {PASSWORD}") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        why = "or the password is another" if password else "such as `openssl genpkey` writes"
        raise UsageError(f"--key {path}: holds no private key that can be read, {why}; expected {_KINDS}") from error
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise UsageError(f"--key {path}: holds another kind of key; expected {_KINDS}")


def _public_key(path: Path) -> PublicKey:
    with _installed():
        from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519  # noqa: PLC0415
        from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415

    data = _pem(path)
    if b"PRIVATE KEY" in data:
        raise UsageError(f"--public-key {path}: holds a private key; its public half: openssl pkey -in {path} -pubout")
    try:
        key = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(f"--public-key {path}: holds no public key that can be read; expected {_KINDS}") from error
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise UsageError(f"--public-key {path}: holds another kind of key; expected {_KINDS}")


def _pem(path: Path) -> bytes:
    try:
        return content(path, most=_LARGEST)
    except DataError as error:
        raise UsageError(f"{error}: that is no key") from error


def _hint(public: PublicKey) -> str:
    """Return the name of a key as cosign and sigstore-go give it: Base64 of the SHA-256 of its DER form."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415 - of the extra

    return _text(hashlib.sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest())


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str) -> bytes:
    """Return what Base64 stands for; one that no encoder writes (bits that nobody reads) is refused."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise DataError(f"is no Sigstore bundle: {error}") from error
    if _text(data) != text:
        raise DataError("is no Sigstore bundle: Base64 with bits that are not used")
    return data
