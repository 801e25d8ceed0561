"""The page tells what is there, what differs and what to do, and fails only where no campaign could run."""

import http.server
import json
import os

import pytest

from agenttrace.cli import main
from agenttrace.errors import UsageError
from agenttrace.host import doctor, engine, findings, folders
from agenttrace.host.findings import DoctorFinding
from agenttrace.tasks import sources
from tests.listening import listening


def states(found):
    return {finding.name: finding.state for finding in found}


def test_without_an_engine_no_campaign_runs_and_the_rest_is_still_told(monkeypatch, capsys):
    def missing():
        raise UsageError("Docker is not installed: get it")

    monkeypatch.setattr(engine, "check", missing)
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--json"])
    assert ended.value.code == 1
    page = json.loads(capsys.readouterr().out)
    assert page["can_run"] is False
    first, *rest = page["findings"]
    assert (first["name"], first["blocks"], first["advice"]) == ("engine", True, "Docker is not installed: get it")
    assert {"python", "fixture nl2bash", "bundled model", "proxy"} <= {finding["name"] for finding in rest}


@pytest.mark.parametrize(
    ("facts", "name", "state"),
    [
        ({}, "image store", "ok"),
        ({"containerd_image_store": False}, "image store", "differs"),
        ({}, "cgroup", "ok"),
        ({"cgroup_version": 1}, "cgroup", "differs"),
    ],
)
def test_what_an_engine_lacks_differs_and_blocks_nothing(engine_info, monkeypatch, facts, name, state):
    monkeypatch.setattr(engine, "check", lambda: engine_info(**facts))
    found = findings.engine_findings()
    assert states(found)[name] == state
    assert doctor.exit_code(found) == 0


def test_an_engine_that_cannot_limit_blocks_and_is_named(engine_info, monkeypatch):
    monkeypatch.setattr(engine, "check", lambda: engine_info(rootless=True, selinux=True, unlimited=("memory",)))
    found = findings.engine_findings()
    assert "rootless, SELinux, kernel" in found[0].found
    assert [(one.name, one.found) for one in found if one.blocks] == [("limits", "memory")]


def test_a_checkout_on_a_drive_of_windows_is_told_of(monkeypatch, tmp_path):
    assert findings._checkout(tmp_path).state == "ok"
    monkeypatch.setattr(folders, "without_modes", lambda _: True)
    assert "clone into the Linux file system" in findings._checkout(tmp_path).advice


@pytest.mark.parametrize(("memory_gib", "state", "code"), [(8, "ok", 0), (4, "differs", 0), (1.5, "differs", 1)])
def test_memory_blocks_below_what_the_containers_may_use(engine_info, memory_gib, state, code):
    found = findings._memory(engine_info(memory_bytes=int(memory_gib * 2**30)))
    assert (found.state, doctor.exit_code([found])) == (state, code)


def test_another_architecture_blocks(engine_info):
    assert findings._architecture(engine_info(arch="arm64")).state == "ok"
    assert findings._architecture(engine_info(arch="riscv64")).blocks


def test_task_files_are_compared_with_their_digest(monkeypatch, tmp_path):
    monkeypatch.setenv(sources.MIRROR, str(tmp_path))
    source = sources.SourceFile(path="mbpp/x", url="https://example.org/x", bytes=1, sha256="ab" * 32)
    assert findings._task_file(source).state == "missing"
    assert "https://example.org/x" in findings._task_file(source).advice
    (tmp_path / "mbpp").mkdir()
    (tmp_path / "mbpp/x").write_text("other")
    assert findings._task_file(source).state == "differs"
    (tmp_path / "mbpp/x").unlink()
    (tmp_path / "mbpp/x").mkdir()
    assert findings._task_file(source).state == "differs"
    (tmp_path / "mbpp/x").rmdir()
    os.mkfifo(tmp_path / "mbpp/x")
    assert "it is a pipe" in findings._task_file(source).found


def test_a_changed_bundled_model_is_told(monkeypatch, tmp_path):
    assert findings._bundled().state == "ok"
    pin = findings.pins.model_pin(findings.pins.DEFAULT_MODEL)
    content = bytearray((findings.pins.BUNDLED / pin.artifact).read_bytes())
    content[-1] ^= 1
    monkeypatch.setattr(findings.pins, "BUNDLED", tmp_path)
    assert findings._bundled().state == "missing"
    (tmp_path / pin.artifact).write_bytes(content)
    assert findings._bundled().state == "differs"


def test_a_changed_fixture_is_told(monkeypatch):
    assert findings._fixture().state == "ok"
    monkeypatch.setattr(findings, "released_version", lambda _name: "0" * 64)
    assert (findings._fixture().state, findings._fixture().pinned) == ("differs", "0" * 64)


def test_a_proxy_is_named_but_its_password_is_not_shown():
    found = findings.settings_findings({"HTTPS_PROXY": "http://me:secret@proxy:3128", "NO_PROXY": "server"})
    assert found[0].found == "set: HTTPS_PROXY, NO_PROXY"
    assert "secret" not in json.dumps(doctor.as_json(found))


def test_a_bundle_without_certificates_is_told(tmp_path):
    bundle = tmp_path / "bundle"
    bundle.write_text("none")
    environ = {"AGENTTRACE_CA_BUNDLE": str(bundle)}
    assert states(findings.settings_findings(environ))["certificates"] == "differs"
    bundle.write_text("-----BEGIN CERTIFICATE-----\n" * 2)
    assert findings.settings_findings(environ)[1].found == f"2 in {bundle}"
    bundle.unlink()
    assert doctor.exit_code(findings.settings_findings(environ)) == 1


@pytest.fixture
def server():
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(200 if self.path == "/here" else 403)
            self.end_headers()

    with listening(Handler) as url:
        yield url


def test_a_refusal_is_an_answer_and_silence_is_none(server, monkeypatch):
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    for path in ("here", "gone"):
        assert findings.answer("hub", f"{server}/{path}", "advice").state == "ok"
    silent = findings.answer("hub", "http://127.0.0.1:9/", "do this", timeout_s=2)
    assert (silent.state, silent.advice) == ("missing", "do this")
    assert findings.answer("hub", "file:///etc/passwd", "advice").state == "missing"


@pytest.mark.parametrize("address", ["http://me:secret@127.0.0.1:9/", "http://me:secret@[x/", "ftp://me:secret@x"])
def test_a_password_in_the_address_of_the_hub_is_not_shown(address):
    found = findings.answer("hub", address, "advice", timeout_s=2)
    assert found.state == "missing"
    assert "secret" not in found.found


def test_an_address_that_cannot_be_is_no_traceback():
    assert findings.answer("hub", "http://[x/", "advice").state == "missing"
    assert findings.answer("hub", "http://a b/", "advice").state == "missing"


def test_the_page_shows_state_pin_and_advice(capsys):
    doctor.show(
        [
            DoctorFinding(name="one", state="ok", found="fine", pinned="hidden"),
            DoctorFinding(name="other", state="differs", found="[b]", pinned="[c]", advice="do it", blocks=True),
        ]
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "one    ok       fine"
    assert lines[1] == "other  differs  [b]"
    assert [line.strip() for line in lines[2:]] == [
        "pinned: [c]",
        "→ needed for any campaign: do it",
        "a campaign cannot run here: 1 to mend",
    ]


@pytest.mark.docker
def test_the_page_of_this_machine(capsys):
    try:
        engine.check()
    except UsageError as error:
        pytest.skip(str(error))
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--json"])
    page = json.loads(capsys.readouterr().out)
    assert page["can_run"] is (ended.value.code == 0)
    names = {finding["name"] for finding in page["findings"]}
    assert {"engine", "image store", "cgroup", "memory", "base", "image server", "image collector"} <= names
