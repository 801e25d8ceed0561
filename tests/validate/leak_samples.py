"""Samples of what the leak check must find, made when they are asked for: nothing here looks like a secret."""

from __future__ import annotations

import base64
import random
import string

_DICE = random.Random(20261129)
_LETTERS = string.ascii_letters + string.digits
_HEX = "0123456789abcdef"
_CAPITALS = string.ascii_uppercase + string.digits


def made(count, alphabet=_LETTERS):
    """Return random characters, digits and letters among them."""
    while True:
        text = "".join(_DICE.choice(alphabet) for _ in range(count))
        if any(map(str.isdigit, text)) and any(map(str.isalpha, text)):
            return text


def _tokens():
    """Yield kind and token; a prefix is written in two parts."""
    for kind, prefix, count, alphabet in (
        ("Groq key", "gs k_", 52, _LETTERS), ("xAI key", "xa i-", 80, _LETTERS),
        ("NVIDIA key", "nva pi-", 64, _LETTERS),
        ("Replicate token", "r 8_", 37, _LETTERS), ("Perplexity key", "pp lx-", 48, _LETTERS),
        ("Tavily key", "tv ly-", 32, _LETTERS), ("Fireworks key", "f w_", 24, _LETTERS),
        ("Together key", "tgp _v1_", 43, _LETTERS), ("Cerebras key", "cs k-", 48, _LETTERS),
        ("LangSmith key", "lsv2 _sk_", 32, _HEX), ("Weights & Biases key", "wandb _v1_", 77, _LETTERS),
        ("Pinecone key", "pc sk_", 69, _LETTERS), ("Voyage key", "p a-", 43, _LETTERS),
        ("Jina key", "ji na_", 60, _LETTERS),
        ("Firecrawl key", "f c-", 32, _HEX), ("Anyscale key", "esec ret_", 26, _LETTERS),
        ("RunPod key", "rp a_", 46, _CAPITALS), ("E2B key", "e2 b_", 40, _HEX), ("ElevenLabs key", "s k_", 48, _HEX),
        ("Amazon Bedrock key", "AB SK", 132, _LETTERS),
        ("Hugging Face token", "h f_", 34, _LETTERS), ("API key (sk-)", "s k-", 48, _LETTERS),
        ("API key (sk-)", "sk -proj-", 60, _LETTERS), ("API key (sk-)", "sk -ant-api03-", 95, _LETTERS),
        ("GitHub token", "gh p_", 36, _LETTERS), ("GitHub token", "gh s_", 36, _LETTERS),
        ("GitHub token", "github _pat_", 82, _LETTERS), ("GitLab token", "gl pat-", 20, _LETTERS),
        ("GitLab token", "gl dt-", 20, _LETTERS), ("GitLab token", "gl rt-", 20, _LETTERS),
        ("Bitbucket token", "AT BB", 32, _LETTERS), ("Atlassian token", "ATA TT3", 186, _LETTERS),
        ("Docker Hub token", "dckr _pat_", 27, _LETTERS), ("package index token", "np m_", 36, _LETTERS),
        ("package index token", "pypi- AgE", 60, _LETTERS), ("package index token", "ruby gems_", 48, _HEX),
        ("AWS key id", "AK IA", 16, _CAPITALS), ("Google API key", "AI za", 35, _LETTERS),
        ("Google token", "ya 29.", 60, _LETTERS), ("Google token", "GOC SPX-", 28, _LETTERS),
        ("DigitalOcean token", "dop _v1_", 64, _HEX), ("Databricks token", "da pi", 32, _HEX),
        ("Vault token", "hv s.", 24, _LETTERS), ("Fly.io token", "fo 1_", 43, _LETTERS),
        ("Heroku key", "HRKU -AA", 58, _LETTERS), ("Cloudflare token", "cf k_", 48, _LETTERS),
        ("Supabase token", "sb p_", 40, _HEX), ("Tailscale key", "ts key-auth-kA1b2C3-", 32, _LETTERS),
        ("Doppler token", "dp .pt.", 43, _LETTERS), ("Twilio key", "S K", 32, _HEX),
        ("Stripe key", "sk _live_", 24, _LETTERS), ("Stripe key", "rk _test_", 24, _LETTERS),
        ("Shopify token", "shp at_", 32, _HEX), ("Slack token", "xo xb-", 24, _LETTERS),
        ("Slack token", "xa pp-1-", 40, _CAPITALS), ("Grafana token", "gl sa_", 41, _LETTERS),
        ("Sentry token", "sntr yu_", 64, _HEX), ("New Relic key", "NR AK-", 27, _CAPITALS),
        ("Notion token", "nt n_", 46, _LETTERS), ("Linear key", "lin _api_", 40, _LETTERS),
        ("age key", "AGE-SEC RET-KEY-1", 58, _CAPITALS),
    ):  # fmt: skip
        yield kind, prefix.replace(" ", "") + made(count, alphabet)
    yield "LangSmith key", f"lsv2{'_pt_'}{made(32, _HEX)}_{made(10, _HEX)}"
    yield "SendGrid key", f"S{'G.'}{made(22)}.{made(43)}"
    yield "JSON Web Token", f"ey{'J'}{made(18)}.ey{'J'}{made(30)}.{made(43)}"
    yield "Telegram token", f"{_DICE.randrange(10**8, 10**9)}:{'A' * 2}{made(33)}"


def _secrets():
    """Yield kind and secret of other forms."""
    begin = "-----BE" + "GIN {} KEY{}-----"
    login = base64.b64encode(f"robot:{made(16)}".encode()).decode()
    yield "private key", begin.format("OPENSSH PRIVATE", "")
    yield "private key", begin.format("PGP PRIVATE", " BLOCK")
    yield "private key", "PuTTY-User-Key" + "-File-3: ssh-ed25519"
    yield "hash of a password", f"${6}${made(8)}${made(86)}"
    yield "hash of a password", f"${'2b'}$12${made(53)}"
    yield "hash of a password", f"${'y'}$j9T${made(22)}${made(43)}"
    yield "bearer token", "Authorization: " + f"Bearer {made(24)}"
    yield "password in an address", f"https://robot:{made(12)}@example.org/x"
    yield "password in an address", f"redis://:{made(12)}@example.org:6379/0"
    yield "login of a registry", f'{{"auths": {{"r.example": {{"auth": "{login}"}}}}}}'
    yield "password of a login", f"machine example.org\n  login robot\n  password {made(12)}"
    yield "password of a login", f"curl -s -u robot:{made(12)} https://example.org"
    yield "password of a login", f"curl https://example.org --user 'robot:{made(12)}'"
    yield "Azure key", f"DefaultEndpointsProtocol=https;AccountKey={made(86)}=="
    yield "Slack token", f"https://hooks.slack.com/services/T{made(8)}/B{made(8)}/{made(24)}"
    yield "Discord webhook", f"https://discord.com/api/webhooks/{'1234567890' * 2}/{made(68)}"
    yield "bearer token", f"Authorization: token {made(40)}"
    yield "secret value", f"API_KEY={made(24)}"
    yield "secret value", f'token: "{made(24)}"'


PATHS = [
    ("host path", "/home/alice/project"),
    ("host path", "/Users/alice.b/x"),
    ("host path", "/var/home/alice/x"),
    ("host path", "/data/home/alice/x"),
    ("host path", "/mnt/nfs/home/alice/x"),
    ("host path", "/mnt/alice-laptop/x"),
    ("host path", "/mnt/c/Users/alice/x"),
    ("host path", "/scratch/alice/run7"),
    ("host path", "/gpfs/scratch/alice"),
    ("host path", "/run/media/alice/STICK"),
    ("host path", "/private/var/folders/ab/0123456789/T"),
    ("host path of Windows", r"C:\Users\Alice\x"),
    ("host path of Windows", r"\\wsl$\Ubuntu\home\alice\x"),
    ("host path of Windows", r"\\wsl.localhost\Debian\home\alice"),
    ("path of the container engine", "/var/lib/docker/overlay2/0a1b2c3d"),
    (
        "path of the container engine",
        "upperdir=/var/lib/docker/containerd/daemon/io.containerd.snapshotter.v1.overlayfs/snapshots/41/fs",
    ),
    ("path of the container engine", "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/7/fs"),
    ("path of the container engine", "/home/x/.local/share/containers/storage/overlay/0a1b2c3d/merged"),
    ("host name", "Alices-MacBook-Pro.local"),
    ("host name", "DESKTOP-A1B2C3D"),
    ("host name", "ip-10-0-12-7"),
    ("host name in a private domain", "build7.eng.corp"),
    ("host name in a private domain", "db.ec2.internal"),
]
SAMPLES = [*_tokens(), *_secrets(), *PATHS]
"""Kind and text."""
