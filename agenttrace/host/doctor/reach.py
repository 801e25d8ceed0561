"""The way out: proxies, certificates, and (only when asked) whether the places that things come from answer."""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING

from agenttrace.errors import AgentTraceError, UsageError
from agenttrace.host import base as bases
from agenttrace.host import engine
from agenttrace.tasks import sources

from .finding import Finding

if TYPE_CHECKING:
    from collections.abc import Mapping

HUB_VARIABLE = "HF_ENDPOINT"
HUB = "https://huggingface.co"
TIMEOUT_S = 10.0
_PROXIES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
_EXCEPTIONS = ("NO_PROXY", "no_proxy")


def settings(environ: Mapping[str, str] = os.environ) -> list[Finding]:
    """Proxy and certificates by the names of their variables: the values may hold a password and are not shown."""
    named = [name for name in (*_PROXIES, *_EXCEPTIONS) if environ.get(name)]
    found = f"set: {', '.join(named)}" if named else "none set"
    return [Finding(name="proxy", state="ok", found=found), _certificates(environ)]


def _certificates(environ: Mapping[str, str]) -> Finding:
    advice = "name a file of PEM certificates in AGENTTRACE_CA_BUNDLE, or unset it"
    try:
        bundle = bases.ca_bundle(environ)
        if bundle is None:
            found = "no bundle on this machine: image builds then check the archive's signature alone"
            return Finding(name="certificates", state="ok", found=found)
        count = bundle.read_bytes().count(b"-----BEGIN CERTIFICATE-----")
    except (UsageError, OSError) as error:
        return Finding(name="certificates", state="missing", found=str(error), advice=advice, blocks=True)
    if not count:
        found = f"{bundle} holds no certificate"
        return Finding(name="certificates", state="differs", found=found, pinned="PEM", advice=advice)
    return Finding(name="certificates", state="ok", found=f"{count} in {bundle}")


def network_findings(environ: Mapping[str, str] = os.environ) -> list[Finding]:
    """Whether registry, Hub and the home of the task files answer; none of them is needed once things are here."""
    return [
        _registry(),
        answer(
            "hub",
            environ.get(HUB_VARIABLE) or HUB,
            "put the weights into the models volume another way, or name a mirror in HF_ENDPOINT",
        ),
        answer(
            "task files",
            sources.MBPP.url,
            f"fetch them elsewhere and name their folder in {sources.MIRROR} (docs/tasks.md)",
        ),
    ]


def _registry() -> Finding:
    reference = bases.pinned("BASE")
    started = time.monotonic()
    try:
        engine.run(["docker", "buildx", "imagetools", "inspect", reference], timeout_s=TIMEOUT_S)
    except AgentTraceError as error:
        said = error.output if isinstance(error, engine.CommandError) else str(error)
        last = (said.strip().splitlines() or ["no reason given"])[-1]
        advice = "images are built on a base from this machine's own Debian mirror instead (needs mmdebstrap)"
        return Finding(name="registry", state="missing", found=last, pinned=reference, advice=advice)
    return Finding(name="registry", state="ok", found=f"has the pinned base ({time.monotonic() - started:.1f} s)")


def answer(name: str, url: str, advice: str, timeout_s: float = TIMEOUT_S) -> Finding:
    """Whether an address answers at all; a refusal by the server is an answer, too.

    Args:
        name: of the finding.
        url: an http or https address.
        advice: what to do when it does not answer.
        timeout_s: how long to wait.
    """
    import http.client  # noqa: PLC0415 - only when asked
    import urllib.error  # noqa: PLC0415
    import urllib.request  # noqa: PLC0415

    started = time.monotonic()
    shown = re.sub(r"//[^/]*@", "//…@", url)  # a password
    if not url.startswith(("http://", "https://")):
        return Finding(name=name, state="missing", found=f"{shown!r} is no web address", advice=advice)
    try:
        request = urllib.request.Request(url, method="HEAD", headers={"User-Agent": "agenttrace-doctor"})  # noqa: S310
        with urllib.request.urlopen(request, timeout=timeout_s) as response:  # noqa: S310 - checked above
            status = response.status
    except urllib.error.HTTPError as error:
        status = error.code
        error.close()
    except (OSError, ValueError, http.client.HTTPException) as error:
        found = f"{shown}: {type(error).__name__}" if shown != url else f"{url}: {error}"
        return Finding(name=name, state="missing", found=found, advice=advice)
    took = time.monotonic() - started
    return Finding(name=name, state="ok", found=f"{shown} answers ({status}, {took:.1f} s)")
