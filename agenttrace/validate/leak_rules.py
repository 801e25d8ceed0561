"""What the leak check looks for, as data: tokens by their prefix, and patterns.

Formats are those that the providers document, or that the public rules of gitleaks and TruffleHog and the scanners of
GitHub and GitLab know by the same prefix.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

LEAST_BITS = 3.5
_LEAST_LETTERS = 3
_LINE = 300
"""Characters of a command line before an option, in which its program is looked for."""
_HEAD = 2
"""Characters by which a prefix is looked up."""
_WORD, _BASE, _HEX, _URL = "[A-Za-z0-9_-]", "[A-Za-z0-9]", "[A-Fa-f0-9]", "[A-Za-z0-9+/=_.-]"
_TOKENS = f"""
Groq key | gsk_ | {_BASE}{{40,}}
xAI key | xai- | {_WORD}{{40,}}
NVIDIA key | nvapi- | {_WORD}{{40,}}
Replicate token | r8_ | {_BASE}{{30,}}
Perplexity key | pplx- | {_BASE}{{32,}}
Tavily key | tvly- | {_WORD}{{20,}}
Fireworks key | fw_ | ?{_BASE}{{20,60}}
Together key | tgp_v1_ | {_WORD}{{40,}}
Cerebras key | csk- | {_BASE}{{40,}}
LangSmith key | lsv2_pt_ lsv2_sk_ ls__ | {_BASE}{{32}}(?:_{_BASE}{{8,12}})?
Weights & Biases key | wandb_v1_ | {_WORD}{{40,}}
Pinecone key | pcsk_ | {_WORD}{{40,}}
Voyage key | pa- | ?{_WORD}{{43}}
Jina key | jina_ | {_WORD}{{40,}}
Firecrawl key | fc- | [a-f0-9]{{32}}
Anyscale key | esecret_ | {_BASE}{{20,}}
RunPod key | rpa_ | [A-Z0-9]{{40,}}
E2B key | e2b_ | [a-f0-9]{{40}}
Daytona key | dtn_ | [a-f0-9]{{60,}}
ElevenLabs key | sk_ | [a-f0-9]{{48}}
Amazon Bedrock key | ABSK bedrock-api-key- | {_URL}{{90,}}
Hugging Face token | hf_ api_org_ | {_BASE}{{30,}}
API key (sk-) | sk- | (?=[A-Za-z_-]{{0,200}}\\d){_WORD}{{20,}}
GitHub token | ghp_ gho_ ghu_ ghs_ ghr_ | {_BASE}{{36,}}
GitHub token | github_pat_ | [A-Za-z0-9_]{{22,}}
GitLab token | glpat- gldt- glrt- glptt- glcbt- glft- glimt- glagent- glsoat- gloas- glffct- | [A-Za-z0-9_.-]{{20,}}
Bitbucket token | ATBB BBDC- | ?[A-Za-z0-9+/@_-]{{32,60}}
Atlassian token | ATATT3 ATCTT3 | [A-Za-z0-9_=-]{{50,}}
CI token | CCIPAT_ bkua_ sqco_ | [A-Za-z0-9_]{{40,}}
Docker Hub token | dckr_pat_ dckr_oat_ | {_WORD}{{20,}}
package index token | npm_ | {_BASE}{{36}}
package index token | pypi-AgE | {_WORD}{{20,}}
package index token | rubygems_ | [a-f0-9]{{48}}
package index token | CLOJARS_ | {_BASE}{{60}}
package index token | oy2 | ?[a-z0-9]{{43}}
Artifactory token | AKCp cmVmdGtu | {_BASE}{{56,}}
AWS key id | AKIA ASIA ABIA ACCA | [A-Z0-9]{{16}}
Google API key | AIza | {_WORD}{{35}}
Google API key | AQ.Ab | {_WORD}{{30,}}
Google token | ya29. | {_WORD}{{20,}}
Google token | GOCSPX- | {_WORD}{{24,}}
Google token | 1//0 | {_WORD}{{40,}}
Alibaba key id | LTAI | ?{_BASE}{{20}}
DigitalOcean token | dop_v1_ doo_v1_ dor_v1_ | [a-f0-9]{{40,}}
Databricks token | dapi | [a-f0-9]{{32}}
Vault token | hvs. hvb. | {_WORD}{{24,}}
Fly.io token | fo1_ fm1a_ fm1r_ fm2_ | [A-Za-z0-9+/_-]{{43,}}
Heroku key | HRKU-AA | {_WORD}{{58}}
OpenShift token | sha256~ | {_WORD}{{43}}
Cloudflare token | cfk_ cfut_ cfat_ | {_BASE}{{40,}}
Pulumi token | pul- | [a-f0-9]{{40}}
PlanetScale token | pscale_tkn_ pscale_pw_ pscale_oauth_ | [A-Za-z0-9_.=-]{{32,}}
Supabase token | sbp_ sb_secret_ | {_WORD}{{24,}}
Neon key | napi_ | {_BASE}{{40,}}
Tailscale key | tskey- | [a-z]{{3,10}}-[A-Za-z0-9_]{{5,40}}-{_BASE}{{16,}}
Doppler token | dp.pt. dp.st. dp.ct. dp.sa. dp.scim. dp.audit. | [A-Za-z0-9_.-]{{40,}}
Infracost key | ico- | {_BASE}{{32}}
Twilio key | SK | {_HEX}{{32}}
SendGrid key | SG. | {_WORD}{{16,32}}\\.{_WORD}{{30,}}
Mailgun key | key- | [a-f0-9]{{32}}
Brevo key | xkeysib- | [a-f0-9]{{64}}
Resend key | re_ | {_BASE}{{8}}_{_BASE}{{24}}
Stripe key | sk_live_ sk_test_ rk_live_ rk_test_ | {_BASE}{{16,}}
Stripe key | whsec_ | ?[A-Za-z0-9+/=]{{32,80}}
Square token | sq0atp- sq0csp- | {_WORD}{{22,}}
Shopify token | shpat_ shpca_ shppa_ shpss_ | {_HEX}{{32}}
Shippo token | shippo_live_ shippo_test_ | [a-f0-9]{{40}}
Slack token | xoxa- xoxb- xoxe- xoxo- xoxp- xoxr- xoxs- xoxe. | [A-Za-z0-9_.-]{{10,}}
Slack token | xapp- | {_WORD}{{20,}}
HubSpot token | pat-na1- pat-eu1- | [a-f0-9-]{{36}}
Grafana token | glc_ glsa_ | [A-Za-z0-9+/=_]{{32,}}
Sentry token | sntryu_ sntrys_ | {_URL}{{40,}}
Dynatrace token | dt0c01. | {_BASE}{{24}}\\.{_BASE}{{60,}}
New Relic key | NRAK- NRII- NRIQ- NRJS- | {_WORD}{{19,}}
PostHog key | phx_ | [A-Za-z0-9_]{{40,}}
Postman key | PMAK- | {_HEX}{{24}}-{_HEX}{{34}}
Sourcegraph token | sgp_ slk_ | [A-Za-z0-9_]{{40,}}
Prefect key | pnu_ | {_BASE}{{36}}
ReadMe key | rdme_ | [a-z0-9]{{60,}}
Typeform token | tfp_ | [A-Za-z0-9_.=-]{{40,}}
Figma token | figd_ figp_ | [A-Za-z0-9_=-]{{40,}}
Apify token | apify_api_ | {_BASE}{{30,}}
Contentful token | CFPAT- | {_WORD}{{40,}}
Notion token | ntn_ | {_BASE}{{40,}}
Notion token | secret_ | ?{_BASE}{{43}}
Linear key | lin_api_ lin_oauth_ | {_BASE}{{40,}}
1Password token | ops_eyJ | {_URL}{{100,}}
age key | AGE-SECRET-KEY-1 | [A-Z0-9]{{40,}}
"""
"""Kind, prefixes, what follows. `?` demands that what follows is random: words of people begin like these prefixes."""


class Token(NamedTuple):
    """A token that is known by how it begins: its kind, and what follows the prefix; `random`: only if that is."""

    kind: str
    body: re.Pattern[str]
    random: bool


def _by_head() -> dict[str, list[tuple[str, Token]]]:
    found: dict[str, list[tuple[str, Token]]] = {}
    for line in _TOKENS.strip().splitlines():
        kind, prefixes, body = line.split(" | ")
        pattern = re.compile(body.removeprefix("?") + r"(?![A-Za-z0-9_])")
        for prefix in prefixes.split():
            found.setdefault(prefix[:_HEAD], []).append((prefix, Token(kind, pattern, body.startswith("?"))))
    return found


TOKENS = _by_head()
"""First characters → prefixes and their tokens. What follows a prefix is bounded, or all that a word may hold: no text
makes them slow."""


class Rule(NamedTuple):
    """A pattern, and texts of which one occurs (letters of either case) wherever it matches: a quick first look.

    `holds` looks once more at what matched.
    """

    pattern: re.Pattern[str]
    hints: tuple[str, ...]
    holds: Callable[[re.Match[str]], bool] = lambda _: True


def is_placeholder(text: str) -> bool:
    """Return whether a text is what documentation writes for a key: `xxxx...`, or one that ends in `EXAMPLE`."""
    return len(set(text)) < _LEAST_LETTERS or "EXAMPLE" in text


def is_random(text: str) -> bool:
    """Return whether a text has digits, letters and at least 3.5 bits of entropy a character, and is no path."""
    if not (re.search(r"\d", text) and re.search(r"[A-Za-z]", text)) or text.startswith("/") or is_placeholder(text):
        return False
    counts = Counter(text)
    return -sum(n / len(text) * math.log2(n / len(text)) for n in counts.values()) >= LEAST_BITS


def _is_login(match: re.Match[str]) -> bool:
    """Return whether what matched is `USER:PASSWORD` in Base64."""
    try:
        return b":" in base64.b64decode(match[1], validate=True)
    except binascii.Error:
        return False


def _is_curls(match: re.Match[str]) -> bool:
    """Return whether what matched is no `-u`, or one of curl: other programs mean something else by it."""
    line = match.string[max(0, match.start() - _LINE) : match.start()].rpartition("\n")[2]
    return not match[0].startswith("-") or re.search(r"(?<![\w-])curl\s", line) is not None


_NOBODY = (
    r"(?:agent|user|users|username|user_?name|your_?user(?:name)?|your_?name|me|name|example|testuser|shared|public"
    r"|runner|ubuntu|ec2-user|vagrant|vscode|node|jovyan|linuxbrew)"
)
_PERSON = rf"(?!{_NOBODY}(?![\w.-]))[A-Za-z0-9][\w.-]{{0,63}}"
_DISKS = (
    r"(?:var|data\d?|disk\d?|mnt|media|nfs\d?|net|export|srv|storage|vol\d?|volumes?|private|system|work|projects?|cluster"
    r"|gpfs|lustre|ceph|beegfs|afs|scratch)"
)
_MOUNTS = (
    r"(?:[a-z]|data|tmp|test|usb|cdrom|disk\d?|sd[a-z]\d?|backup|storage|shared?|nfs|vol\d?|volume|drive|iso|root|new)"
)
_LONG = r"[\w.-]{1,40}"
_PLACEHOLDER = r"(?:pass(?:word|wd)?|pwd?|secret|token|api[_-]?key|key|x{3,}|\.{3}|\*+)(?![\w-])"

RULES: dict[str, Rule] = {
    name: Rule(re.compile(pattern), tuple(hints.split()), *more)
    for name, hints, pattern, *more in (
        # a person's folder on a host
        (
            "host path",
            "/home/ /users/ /private/var/ /scratch/ /media/ /mnt/",
            (
                rf"/(?<![\w.]/)(?:(?:{_DISKS}/(?:{_LONG}/){{0,2}})?(?:home|Users)/{_PERSON}|(?:{_DISKS}/)?scratch/{_PERSON}"
                rf"|(?:run/)?media/{_PERSON}/\w|mnt/(?!{_MOUNTS}(?![\w.-])){_PERSON}"
                r"|private/var/folders/\w\w/\w{8,64})"
            ),
        ),
        (
            "host path of Windows",
            r":\ \wsl",
            (
                rf"(?i:\b[c-z]:\\{{1,4}}(?:users|documents and settings)\\{{1,4}}{_PERSON}"
                rf"|\\wsl(?:\$|\.localhost)\\{{1,4}}{_LONG}\\{{1,4}}home\\{{1,4}}{_PERSON})"
            ),
        ),
        (
            "path of the container engine",
            "/docker/ /containerd/ /containers/storage/",
            (
                r"/var/lib/docker/(?:(?:overlay2|volumes|containers|btrfs|zfs|rootfs/overlayfs|image)/\w{4,64}"
                rf"|containerd/{_LONG})|/var/lib/containerd/{_LONG}|/containers/storage/overlay/\w{{4,64}}"
            ),
        ),
        # names that machines give themselves
        (
            "host name",
            "macbook imac mac-mini macmini mac-studio macstudio desktop- laptop- ip-",
            (
                r"(?:MacBook|iMac|Mac-?[Mm]ini|Mac-?Studio)[\w-]{0,40}\.(?:local|lan|home)\b"
                r"|\b(?:DESKTOP-[A-Z0-9]{7}|LAPTOP-[A-Z0-9]{8})\b|\bip-\d{1,3}-\d{1,3}-\d{1,3}-\d{1,3}\b"
            ),
        ),
        (
            "host name in a private domain",
            ".corp .localdomain .home.arpa .ec2.internal",
            r"(?<=[A-Za-z0-9])\.(?:corp|localdomain|home\.arpa|ec2\.internal)\b",
        ),
        ("Slack token", "hooks.slack", r"hooks\.slack\.com/services/\w{8,}"),
        ("Discord webhook", "/api/webhooks/", r"discord(?:app)?\.com/api/webhooks/\d{15,20}/[\w-]{60,}"),
        ("Telegram token", ":aa", r"(?<!\d)\d{8,10}:AA[A-Za-z0-9_-]{33}(?![\w-])"),
        ("Terraform token", ".atlasv1.", r"\b[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_=-]{60,}"),
        ("1Password key", "a3-", r"\bA3-[A-Z0-9]{6}-[A-Z0-9-]{26,28}(?![\w-])"),
        (
            "Azure key",
            "accountkey= sharedaccesskey= q~",
            r"(?i:AccountKey|SharedAccessKey)=[A-Za-z0-9+/]{40,}={0,2}|(?<![\w.~-])[\w.~]{3}\dQ~[\w.~-]{31,34}(?![\w~-])",
        ),
        (
            "JSON Web Token",
            "eyj",
            r"(?<![A-Za-z0-9_])eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}",
        ),
        (
            "private key",
            "-----begin putty-user",
            r"-----BEGIN (?:[A-Z0-9]{2,12} ){0,2}PRIVATE KEY(?: BLOCK)?-----|PuTTY-User-Key-File-\d",
        ),
        (
            "bearer token",
            "authorization",
            r"(?i:\bauthorization\b.{0,4}\b(?:bearer|basic|token|api-?key) )[A-Za-z0-9._~+/=-]{16,}",
        ),
        ("password in an address", "://", rf"://[^\s/:@'\"]{{0,64}}:(?!(?i:{_PLACEHOLDER})@)[^\s/@'\"]{{3,128}}@"),
        (
            "password of a login",
            "curl login",
            (
                rf"(?<!\S)(?:-u|--user)[ =]{{0,2}}['\"]?[^\s:'\"$]{{1,64}}:(?!\$|<|{_PLACEHOLDER})[^\s'\"]{{3,64}}"
                r"|(?<!\w)machine\s{1,4}\S{1,99}\s{1,8}login\s{1,4}\S{1,64}\s{1,8}password\s{1,4}"
                rf"(?!\$|<|{_PLACEHOLDER})\S{{3,64}}"
            ),
            _is_curls,
        ),
        ("login of a registry", "auth", r"\"auth\"\s{0,3}:\s{0,3}\"([A-Za-z0-9+/]{8,400}={0,2})\"", _is_login),
        (
            "hash of a password",
            "$",
            (
                r"\$(?:5|6|y|gy|7)\$[./A-Za-z0-9=]{1,60}\$(?:[./A-Za-z0-9]{1,60}\$)?[./A-Za-z0-9]{40,90}(?![\w./])"
                r"|\$2[abxy]?\$\d\d\$[./A-Za-z0-9]{53}|\$argon2(?:id|i|d)\$[^\s$]{3,20}\$[^\s$]{3,60}\$[^\s$]{8,120}\$"
            ),
        ),
    )
}
"""Name → rule. Every repetition is bounded or followed by nothing, so no text makes them slow."""
