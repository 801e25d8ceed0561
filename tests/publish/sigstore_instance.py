"""A Sigstore of a test's own over HTTP: an authority like Fulcio, a log like Rekor, and the file that trusts them."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import hashlib
import http.server
import json
import struct
import time

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.listening import listening

FULCIO = "1.3.6.1.4.1.57264.1"
TIMESTAMPS = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
START = "2020-01-01T00:00:00Z"


def b64(data):
    return base64.b64encode(data).decode()


def der(key):
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def signed(key, data):
    return key.sign(data, ec.ECDSA(hashes.SHA256()))


def token(identity, issuer, *, seconds=600):
    """An OpenID token that says who somebody is; nobody looks at its signature before Fulcio does."""
    now = int(time.time())
    claims = {"aud": "sigstore", "sub": identity, "iss": issuer, "iat": now, "exp": now + seconds}
    parts = [json.dumps({"alg": "none", "typ": "JWT"}).encode(), json.dumps(claims).encode(), b"x"]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


class Instance:
    """Keys of the authority, of its log and of the log of signatures; `refuse` is the status of every answer."""

    def __init__(self):
        self.ca, self.ct, self.log = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test's own")])
        self.root = self._certificate(self.ca.public_key(), self.name, days=1000)
        self.root = self.root.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self.root = self.root.add_extension(self._usage(certificates=True), critical=True).sign(
            self.ca, hashes.SHA256()
        )
        self.refuse = 0
        self.url = ""

    @staticmethod
    def _usage(*, certificates):
        names = (
            *("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "crl_sign"),
            *("encipher_only", "decipher_only"),
        )
        return x509.KeyUsage(
            digital_signature=not certificates, key_cert_sign=certificates, **dict.fromkeys(names, False)
        )

    def _certificate(self, public, subject, *, days):
        now = dt.datetime.now(dt.UTC)
        made = x509.CertificateBuilder().subject_name(subject).issuer_name(self.name).public_key(public)
        made = made.serial_number(x509.random_serial_number())
        made = made.not_valid_before(now - dt.timedelta(minutes=5)).not_valid_after(now + dt.timedelta(days=days))
        made = made.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.ca.public_key())
        return made.add_extension(issuer, critical=False)

    def certificate(self, request, claims):
        """Return the certificate of a request by who the token says it is, with the word of the certificate log."""
        made = self._certificate(request.public_key(), x509.Name([]), days=1)
        made = made.add_extension(self._usage(certificates=False), critical=True)
        made = made.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
        name = x509.RFC822Name(claims["sub"])
        made = made.add_extension(x509.SubjectAlternativeName([name]), critical=True)
        issuer = claims["iss"].encode()
        for number, value in ((1, issuer), (8, bytes([0x0C, len(issuer)]) + issuer)):
            extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(f"{FULCIO}.{number}"), value)
            made = made.add_extension(extension, critical=False)
        tbs = made.sign(self.ca, hashes.SHA256()).tbs_certificate_bytes
        return made.add_extension(x509.UnrecognizedExtension(TIMESTAMPS, self._seen(tbs)), critical=False).sign(
            self.ca, hashes.SHA256()
        )

    def _seen(self, tbs):
        """Return a list with one signed timestamp over a certificate that has none yet (RFC 6962, 3.2 and 3.3)."""
        at = int(time.time() * 1000)
        entry = hashlib.sha256(der(self.ca)).digest() + struct.pack("!I", len(tbs))[1:] + tbs
        signature = signed(self.ct, struct.pack("!BBQH", 0, 0, at, 1) + entry + b"\0\0")
        one = (
            b"\0"
            + hashlib.sha256(der(self.ct)).digest()
            + struct.pack("!QHBBH", at, 0, 4, 3, len(signature))
            + signature
        )
        listed = struct.pack("!HH", len(one) + 2, len(one)) + one
        return bytes([4, len(listed)]) + listed if len(listed) < 128 else bytes([4, 0x81, len(listed)]) + listed

    def entry(self, proposed):
        """Return a log of one entry with the promise that it stays and the proof that it is there."""
        body = json.dumps(proposed, sort_keys=True, separators=(",", ":")).encode()
        log_id, at = hashlib.sha256(der(self.log)).digest(), int(time.time())
        promised = {"body": b64(body), "integratedTime": at, "logID": log_id.hex(), "logIndex": 1000}
        root = hashlib.sha256(b"\0" + body).digest()
        note = f"test - 1\n1\n{b64(root)}\n"
        checkpoint = f"{note}\n— test {b64(log_id[:4] + signed(self.log, note.encode()))}\n"
        proof = {"logIndex": 0, "rootHash": root.hex(), "treeSize": 1, "hashes": [], "checkpoint": checkpoint}
        promise = signed(self.log, json.dumps(promised, sort_keys=True, separators=(",", ":")).encode())
        return {
            root.hex(): {**promised, "verification": {"inclusionProof": proof, "signedEntryTimestamp": b64(promise)}}
        }

    def trust_config(self):
        """What a client is given: whom it trusts, and where they are."""

        def key(one):
            return {"rawBytes": b64(der(one)), "keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": {"start": START}}

        def log(one, url):
            name = {"keyId": b64(hashlib.sha256(der(one)).digest())}
            return {"baseUrl": url, "hashAlgorithm": "SHA2_256", "publicKey": key(one), "logId": name}

        def service():
            return {"url": self.url, "majorApiVersion": 1, "validFor": {"start": START}, "operator": "test"}

        authority = {
            "subject": {"organization": "test", "commonName": "test"}, "uri": self.url,
            "certChain": {"certificates": [{"rawBytes": b64(self.root.public_bytes(Encoding.DER))}]},
            "validFor": {"start": START},
        }  # fmt: skip
        return {
            "mediaType": "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json",
            "trustedRoot": {
                "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
                "tlogs": [log(self.log, self.url)], "ctlogs": [log(self.ct, self.url)],
                "certificateAuthorities": [authority], "timestampAuthorities": [],
            },
            "signingConfig": {
                "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
                "caUrls": [service()], "oidcUrls": [], "rekorTlogUrls": [service()], "tsaUrls": [],
                "rekorTlogConfig": {"selector": "ANY"}, "tsaConfig": {"selector": "ANY"},
            },
        }  # fmt: skip


@contextlib.contextmanager
def running():
    """A Sigstore that answers; `url` is where."""
    instance = Instance()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if instance.refuse:
                self.answer(instance.refuse, {"message": "refused by the test"})
            elif self.path == "/api/v2/signingCert":
                body = self.headers["Authorization"].removeprefix("Bearer ").split(".")[1]
                claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
                request = x509.load_pem_x509_csr(base64.b64decode(asked["certificateSigningRequest"]))
                chain = [instance.certificate(request, claims), instance.root]
                texts = [one.public_bytes(Encoding.PEM).decode() for one in chain]
                self.answer(200, {"signedCertificateEmbeddedSct": {"chain": {"certificates": texts}}})
            else:
                assert self.path == "/api/v1/log/entries"
                self.answer(201, instance.entry(asked))

        def answer(self, status, value):
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    with listening(Handler) as url:
        instance.url = url
        yield instance
