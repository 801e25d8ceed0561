"""The whole battery against the real sandbox, and against weaker ones."""

import functools
import json

import pytest

from agenttrace.host import __main__ as host
from agenttrace.host import images
from agenttrace.probes import report
from agenttrace.sandbox.policies import policies

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1200), pytest.mark.usefixtures("engine")]


def got_through(outcome):
    return {result.name for result in outcome.results if result.verdict == "GOT THROUGH"}


@pytest.mark.parametrize("policy", policies())
def test_nothing_gets_through(policy):
    outcome = report.probe_sandbox(only=[policy])
    bad = [result for result in outcome.results if result.verdict not in {"held", "not applicable"}]
    assert not bad, bad
    assert outcome.exit_code == 0
    assert sum(result.verdict == "held" for result in outcome.results) >= 60


@pytest.mark.parametrize(
    ("policy", "override", "named", "caught"),
    [
        pytest.param(
            "shell",
            "network_mode: bridge",
            "network-(interfaces|udp|dev-udp|raw)$",
            {"network-interfaces", "network-udp", "network-dev-udp"},
            id="network",
        ),
        pytest.param(
            "execution_free",
            "network_mode: bridge",
            "network-(interfaces|dev-udp)$",
            {"network-interfaces", "network-dev-udp"},
            id="network, execution-free",
        ),
        pytest.param(
            "shell",
            "volumes: ['/dev/null:/var/run/docker.sock', '/dev/null:/data']",
            "files-(engine|collector)",
            {"files-engine-socket", "files-collector"},
            id="files of the host",
        ),
        pytest.param(
            "shell",
            "volumes: ['/etc:/host', '/dev/null:/run/podman.sock']",
            "escape-(docker|writable|runc)",
            {"escape-docker-socket", "escape-writable-host-path"},
            id="folders of the host",
        ),
        pytest.param(
            "execution_free",
            "tmpfs: !override ['/testdata:exec,uid=20000,gid=20000', '/tmp:exec', '/var/tmp:exec', '/run/call']",
            "native-",
            {"native-script", "native-elf", "native-elf-loader", "native-preload", "native-builtin", "native-mounts"},
            id="own programs",
        ),
        pytest.param(
            "shell",
            "tmpfs: !override ['/tmp:size=1g', '/var/tmp', '/dev/shm', '/run/call']",
            "resource-(quota-tmp|tmpfs-inodes)",
            {"resource-quota-tmp", "resource-tmpfs-inodes"},
            id="quota",
        ),
        pytest.param(
            "shell",
            "sysctls: !override {net.ipv4.tcp_max_tw_buckets: 1000}",
            "leftover-loopback|resource-sysv",
            {"leftover-loopback", "resource-sysv"},
            id="what the kernel keeps",
        ),
    ],
)
def test_a_weaker_container_is_told(tmp_path, policy, override, named, caught):
    file = tmp_path / "override.yml"
    file.write_text(f"services:\n  {policies()[policy].service}:\n    {override}\n", encoding="utf-8")
    outcome = report.probe_sandbox(only=[policy], named=named, override=file)
    assert got_through(outcome) == caught
    assert outcome.exit_code == 1


def test_an_interpreter_that_can_be_run_is_found_by_every_way_in(derived_image, monkeypatch, tmp_path, capsys):
    images.build(targets=["sandbox-execution-free"])
    weak = derived_image(
        images.name("sandbox-execution-free"),
        "chmod 0755 /opt/agenttrace/private /opt/agenttrace/private/python3 && chmod -R a+rX /usr/lib/python3*",
    )
    variables = {"AGENTTRACE_SANDBOX_EXECUTION_FREE_IMAGE": weak}
    monkeypatch.setattr(report, "probe_sandbox", functools.partial(report.probe_sandbox, variables=variables))
    file = tmp_path / "out.json"
    with pytest.raises(SystemExit) as ended:
        host.main(["probe-sandbox", "--policy", "execution_free", "-k", "interpreter", "--json", str(file)])
    assert ended.value.code == 1
    assert "GOT THROUGH" in capsys.readouterr().out
    verdicts = {result["name"]: result["verdict"] for result in json.loads(file.read_text())["results"]}
    ways = "paths search find awk sed tar env sort pagers git-alias git-settings loader proc-exe copy"
    expected = {f"interpreter-{way}" for way in ways.split()}
    assert {name for name, verdict in verdicts.items() if verdict == "GOT THROUGH"} >= expected


def test_a_worker_that_a_swarm_takes_is_told(derived_image):
    """Without the compiled helper a call can take back that it is the first to die.

    The kernel takes the largest then. The runner is about as large as one of the swarm, so the weak one holds more.
    """
    images.build(targets=["sandbox"])
    grown = "cd /opt/agenttrace/runner && rm -r __pycache__ && echo 'BALLAST = bytes([1]) * (64 << 20)' >>child.py"
    weak = derived_image(images.name("sandbox"), f"rm /opt/agenttrace/call-helper && {grown}")
    variables = {"AGENTTRACE_SANDBOX_IMAGE": weak}
    outcome = report.probe_sandbox(only=["shell"], named="resource-oom-swarm", variables=variables)
    assert got_through(outcome) == {"resource-oom-swarm"}


def test_readable_code_of_the_runner_is_told(derived_image):
    images.build(targets=["sandbox"])
    weak = derived_image(images.name("sandbox"), "chmod -R a+rX /opt/agenttrace")
    outcome = report.probe_sandbox(only=["shell"], named="files-", variables={"AGENTTRACE_SANDBOX_IMAGE": weak})
    assert got_through(outcome) == {"files-runner-code", "files-fixture"}
