"""One commit or none: a local server speaks the endpoints of the Hub that an upload uses."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import shutil
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from agenttrace.errors import DataError, StorageError, UsageError
from agenttrace.publish.folder import publish
from agenttrace.publish.sums import MANIFEST, SIGNATURE
from agenttrace.publish.upload import check_name, upload
from tests.formats.hostile import OLD
from tests.listening import listening

NAME = "owner/rollouts"
RELEASED = Path(__file__).parents[2] / "datasets" / "agenttrace-demo"
HEAD = "d" * 40


class Hub:
    """A repository: its files, its commits, and how it refuses."""

    def __init__(self):
        self.files = {
            "data/train-00000-of-00002.parquet": b"old", "earlier.run.json": b"{}", "notes.txt": b"not ours",
            "their/own.run.json": b"{}", ".gitattributes": b"",
        }  # fmt: skip
        self.commits = []
        self.blobs = {}
        self.requests = []
        self.created = None
        self.public = False  # was there before, and open to all
        self.private = False
        self.refuse = {}  # beginning of a path -> status
        self.lfs = ()  # endings of names that go to large-file storage
        self.url = ""


class Handler(http.server.BaseHTTPRequestHandler):
    hub: Hub

    def do_GET(self):
        self.answer(b"")

    def do_POST(self):
        self.answer(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

    def do_PUT(self):
        hub = self.hub
        data = self.rfile.read(int(self.headers["Content-Length"]))
        hub.blobs[hashlib.sha256(data).hexdigest()] = data
        self.send({})

    def answer(self, body):
        hub, path = self.hub, urlsplit(self.path).path
        hub.requests.append((self.command, path, self.headers.get("Authorization")))
        status = next((status for start, status in hub.refuse.items() if path.startswith(start)), None)
        if status is not None:
            self.send({"error": "no"}, status, {"X-Error-Code": "RepoNotFound"} if status == 404 else {})
        elif path == "/api/repos/create":
            hub.created = json.loads(body)
            hub.private = not hub.public and hub.created.get("visibility") == "private"
            self.send({"url": f"{hub.url}/datasets/{NAME}"})
        elif path == f"/api/datasets/{NAME}/revision/main":
            files = [{"rfilename": name} for name in hub.files]
            self.send({"id": NAME, "sha": HEAD, "siblings": files, "tags": [], "private": hub.private})
        elif path == "/api/validate-yaml":
            self.send({"errors": [], "warnings": []})
        elif path == f"/api/datasets/{NAME}/preupload/main":
            modes = [
                {
                    "path": one["path"], "shouldIgnore": False, "oid": None,
                    "uploadMode": "lfs" if one["path"].endswith(hub.lfs or ("\0",)) else "regular",
                }
                for one in json.loads(body)["files"]
            ]  # fmt: skip
            self.send({"files": modes})
        elif path == f"/datasets/{NAME}.git/info/lfs/objects/batch":
            wanted = [
                {**one, "actions": {"upload": {"href": f"{hub.url}/blob/{one['oid']}"}}}
                for one in json.loads(body)["objects"]
            ]
            self.send({"transfer": "basic", "objects": wanted})
        elif path == f"/api/datasets/{NAME}/commit/main":
            self.commit([json.loads(line) for line in body.splitlines()])
        else:
            self.send({"error": f"no such endpoint: {path}"}, 500)

    def commit(self, lines):
        hub = self.hub
        header = next(line["value"] for line in lines if line["key"] == "header")
        if header.get("parentCommit") != HEAD:
            self.send({"error": "the branch has moved"}, 412)
            return
        files = dict(hub.files)
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = hub.blobs[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        hub.files = files
        hub.commits.append(lines)
        url = f"{hub.url}/datasets/{NAME}/commit/{'e' * 40}"
        self.send({"success": True, "commitOid": "e" * 40, "commitUrl": url})

    def send(self, value, status=200, headers=()):
        data = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Type": "application/json", "Content-Length": len(data), **dict(headers)}.items():
            self.send_header(name, str(text))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def server(monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_PROGRESS_BARS", True)
    monkeypatch.setenv("HF_TOKEN", "hf_" + "x" * 8)
    hub = Hub()
    with listening(type("Bound", (Handler,), {"hub": hub})) as hub.url:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


@pytest.fixture
def folder(tmp_path):
    publish([OLD], tmp_path / "out")
    return tmp_path / "out"


@pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload:DeprecationWarning")  # huggingface_hub's own
@pytest.mark.parametrize("lfs", [(), (".parquet",)])
def test_one_commit_brings_everything_and_removes_what_is_stale(server, folder, lfs):
    server.lfs = lfs
    done = upload(folder, NAME, private=True)
    assert len(server.commits) == 1
    assert server.created["visibility"] == "private"
    assert server.created["type"] == "dataset"
    wanted = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    kept = {"notes.txt": b"not ours", "their/own.run.json": b"{}", ".gitattributes": b""}
    assert server.files == {**wanted, **kept}
    assert (done.added, done.removed) == (len(wanted), 2)
    assert done.url.endswith("e" * 40)
    assert {token for _, path, token in server.requests if "blob" not in path} <= {"Bearer hf_" + "x" * 8, None}


@pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload:DeprecationWarning")  # huggingface_hub's own
def test_a_release_is_uploaded_with_its_manifest_and_signature(server, folder, tmp_path):
    released = Path(shutil.copytree(RELEASED, tmp_path / "released"))
    (released / SIGNATURE).write_text("{}")
    upload(released, NAME, private=False)
    wanted = {str(path.relative_to(released)): path.read_bytes() for path in released.rglob("*") if path.is_file()}
    assert {MANIFEST, SIGNATURE} < wanted.keys() <= server.files.keys()
    assert wanted.items() <= server.files.items()
    server.files |= {"more/manifest.json": b"not ours"}
    upload(folder, NAME, private=False)  # of no release: what was the other one's would be false here
    left = {name for name in server.files if not (folder / name).is_file()}
    assert left == {"notes.txt", "their/own.run.json", ".gitattributes", "CITATION.cff", "more/manifest.json"}
    server.files |= {MANIFEST: b"somebody else's"}
    upload(folder, NAME, private=False)
    assert MANIFEST in server.files


def test_a_release_with_another_manifest_is_not_uploaded(server, tmp_path):
    released = Path(shutil.copytree(RELEASED, tmp_path / "released"))
    (released / "more.txt").touch()
    with pytest.raises(DataError, match=r"manifest\.json is not the list of these files.*release.*--verify"):
        upload(released, NAME, private=False)
    assert server.requests == []


def test_what_is_to_be_private_is_not_sent_to_a_public_repository(server, folder):
    server.public = True
    before = dict(server.files)
    with pytest.raises(UsageError, match="a private repository was asked for"):
        upload(folder, NAME, private=True)
    assert server.files == before


@pytest.mark.parametrize(
    ("path", "status", "message", "kind"),
    [
        ("/api/repos/create", 401, "does not know the token", UsageError),
        ("/api/repos/create", 403, "may not write to owner/rollouts", UsageError),
        (f"/api/datasets/{NAME}/revision", 404, "no data set owner/rollouts", UsageError),
        (f"/api/datasets/{NAME}/commit", 403, "may not write", UsageError),
        (f"/api/datasets/{NAME}/commit", 412, "changed meanwhile", StorageError),
        (f"/api/datasets/{NAME}/commit", 400, "status 400", StorageError),
    ],
)
def test_a_refusal_says_why_and_changes_nothing(server, folder, path, status, message, kind):
    before = dict(server.files)
    server.refuse = {path: status}
    with pytest.raises(kind, match=message) as caught:
        upload(folder, NAME, private=False)
    assert "xxxxxxxx" not in str(caught.value)
    assert server.files == before


def test_a_token_that_may_write_is_not_sent_in_clear_text(server, folder, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.example")
    with pytest.raises(UsageError, match="in clear text; name an https:// address"):
        upload(folder, NAME, private=False)
    assert server.requests == []


def test_no_server_no_token_and_offline_mode_are_named(server, folder, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(StorageError, match=r"cannot reach the Hub at http://127\.0\.0\.1:9"):
        upload(folder, NAME, private=False)
    monkeypatch.setenv("HF_TOKEN", " ")
    with pytest.raises(UsageError, match="HF_TOKEN"):
        upload(folder, NAME, private=False)
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UsageError, match="HF_HUB_OFFLINE"):
        upload(folder, NAME, private=False)
    assert server.requests == []


def test_a_folder_that_was_changed_is_not_sent(server, folder):
    (folder / "README.md").write_text("other", encoding="utf-8")
    with pytest.raises(DataError, match=r"README.md is not what SHA256SUMS says"):
        upload(folder, NAME, private=False)
    (folder / "SHA256SUMS").write_text(f"{'0' * 64}  ../run.jsonl\n", encoding="utf-8")
    with pytest.raises(DataError, match="no file of the folder"):
        upload(folder, NAME, private=False)
    (folder / "SHA256SUMS").unlink()
    with pytest.raises(UsageError, match="SHA256SUMS"):
        upload(folder, NAME, private=False)
    assert server.requests == []


@pytest.mark.parametrize("name", ["rollouts", "a/b/c", "../x", "owner/", "owner/na me"])
def test_only_names_of_repositories_are_accepted(name):
    with pytest.raises(UsageError, match="OWNER/NAME"):
        check_name(name)
