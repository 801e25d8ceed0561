"""When images are built, on what, and what they hold."""

import subprocess

import pytest

from agenttrace.errors import UsageError
from agenttrace.host import base, engine, images

DOCKERFILE = "ARG BASE=debian:forky@sha256:00\nARG SNAPSHOT=20261030T140000Z\n"


@pytest.fixture
def checkout(tmp_path):
    for path, text in {
        "Dockerfile": DOCKERFILE,
        ".dockerignore": "*\n",
        "docker/apt-install.sh": "",
        "requirements/collector.txt": "",
        "agenttrace/collect.py": "",
        "agenttrace/host/engine.py": "",
        "agenttrace/fixture/demo.toml": "",
        "agenttrace/sandbox/client.py": "",
        "agenttrace/sandbox/runner/__main__.py": "",
        "agenttrace/sandbox/tools/interpret.py": "",
    }.items():
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("path", "changed"),
    [
        ("Dockerfile", ["server", "sandbox", "collector"]),
        ("docker/apt-install.sh", ["server", "sandbox", "collector"]),
        ("agenttrace/fixture/demo.toml", ["sandbox", "collector"]),
        ("agenttrace/sandbox/runner/__main__.py", ["sandbox", "collector"]),
        ("agenttrace/sandbox/tools/new.py", ["sandbox", "collector"]),
        ("agenttrace/sandbox/helper/child.c", ["sandbox", "collector"]),
        ("agenttrace/sandbox/client.py", ["collector"]),
        ("agenttrace/collect.py", ["collector"]),
        ("requirements/collector.txt", ["collector"]),
        ("requirements/tests.txt", []),
        ("agenttrace/host/engine.py", []),
        ("agenttrace/__pycache__/x.pyc", []),
        ("README.md", []),
    ],
)
def test_only_images_that_hold_a_changed_file_are_built_again(checkout, path, changed):
    before = {target: images.fingerprint(target, checkout) for target in images.TARGETS}
    (checkout / path).parent.mkdir(exist_ok=True)
    (checkout / path).write_text("changed")
    after = {target: images.fingerprint(target, checkout) for target in images.TARGETS}
    assert [target for target in images.TARGETS if after[target] != before[target]] == changed


def test_a_renamed_file_changes_the_fingerprint(checkout):
    before = images.fingerprint("collector", checkout)
    (checkout / "agenttrace/collect.py").rename(checkout / "agenttrace/collected.py")
    assert images.fingerprint("collector", checkout) != before


def test_pins_are_read_from_the_dockerfile(checkout):
    assert base.pinned("BASE", checkout) == "debian:forky@sha256:00"
    assert base.source_date_epoch(checkout) == 1_793_368_800
    with pytest.raises(UsageError, match="ARG OTHER"):
        base.pinned("OTHER", checkout)


def programs(folder, monkeypatch, **code):
    """Puts these programs, shell code each, alone on the PATH; what they are called with lands in `calls`."""
    for name, body in code.items():
        path = folder / name.replace("_", "-")
        path.write_text(f'#!/bin/sh\necho "{name} $*" >>"{folder}/calls"\n{body}\n')
        path.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


IMAGE_HERE = 'case "$1 $2" in "image inspect") exit 0 ;; esac; exit 1'
REGISTRY = 'case "$1 $2" in "buildx imagetools") exit 0 ;; esac; exit 1'
NO_REGISTRY = (
    'case "$1 $2" in '
    '"buildx imagetools") echo "ERROR: failed: Head \\"https://x\\": no such host" >&2; exit 1 ;; '
    '"image inspect") exit 1 ;; "version --format") echo amd64 ;; "image ls") ;; '
    'import*) cp "$6" "${0%/*}/imported" ;; esac'
)
APT_GET = "echo http://mirror.example/debian/"
MMDEBSTRAP = 'while [ "$#" -gt 2 ]; do shift; done; printf rootfs-$SOURCE_DATE_EPOCH >"$1"'


@pytest.mark.parametrize("docker", [IMAGE_HERE, REGISTRY])
def test_the_pinned_base_is_taken_where_it_can_be_had(tmp_path, monkeypatch, docker):
    programs(tmp_path, monkeypatch, docker=docker)
    chosen = base.decide()
    assert (chosen.reference, chosen.origin) == (base.pinned("BASE"), "registry")
    assert chosen.apt_source is None


def test_without_a_registry_a_base_is_made_from_the_hosts_mirror(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    programs(tmp_path, monkeypatch, docker="PATH=/usr/bin:/bin\n" + NO_REGISTRY, apt_get=APT_GET, mmdebstrap=MMDEBSTRAP)
    chosen = base.decide()
    assert chosen.origin == "mmdebstrap"
    assert chosen.reference.startswith("agenttrace-base:forky-amd64-")
    assert chosen.apt_source == "deb http://mirror.example/debian forky main\n"
    assert (tmp_path / "imported").read_text() == "rootfs-1793368800"
    said = "no registry (no such host); making a forky root file system with mmdebstrap"
    assert capsys.readouterr().err == f"agenttrace: {said}\n"


def test_a_base_made_before_is_used_again(tmp_path, monkeypatch):
    docker = NO_REGISTRY.replace('"image ls")', '"image ls") echo agenttrace-base:forky-amd64-123')
    programs(tmp_path, monkeypatch, docker=docker, apt_get=APT_GET, mmdebstrap="exit 1")
    assert base.decide().reference == "agenttrace-base:forky-amd64-123"
    assert "mmdebstrap " not in (tmp_path / "calls").read_text()


def test_neither_registry_nor_mmdebstrap(tmp_path, monkeypatch):
    programs(tmp_path, monkeypatch, docker=NO_REGISTRY)
    with pytest.raises(UsageError, match=r"no such host.*mmdebstrap"):
        base.decide()


def test_no_debian_mirror(tmp_path, monkeypatch):
    programs(tmp_path, monkeypatch, docker=NO_REGISTRY, apt_get="echo file:/media/disc", mmdebstrap="")
    with pytest.raises(UsageError, match="no Debian mirror"):
        base.decide()


def test_certificates_by_order_of_their_variables(tmp_path):
    own, pip, system = (tmp_path / name for name in ("own", "pip", "system"))
    for file in (own, pip, system):
        file.touch()
    named = {"AGENTTRACE_CA_BUNDLE": str(own), "PIP_CERT": str(pip), "SSL_CERT_FILE": str(tmp_path / "gone")}
    assert base.ca_bundle(named, ()) == own
    del named["AGENTTRACE_CA_BUNDLE"]
    assert base.ca_bundle(named, ()) == pip
    del named["PIP_CERT"]
    assert base.ca_bundle(named, (str(system),)) == system
    assert base.ca_bundle(named, ()) is None
    with pytest.raises(UsageError, match="AGENTTRACE_CA_BUNDLE"):
        base.ca_bundle({"AGENTTRACE_CA_BUNDLE": str(tmp_path / "gone")}, ())


@pytest.mark.parametrize(
    "left", ["", "registry", "registry 0123456789abcdef", "registry\n" + "0" * 64 + "\n" + "0" * 64]
)
def test_facts_that_a_full_disk_cut_short_are_asked_for_again(tmp_path, monkeypatch, left):
    monkeypatch.setattr(images, "_log_folder", lambda: tmp_path)
    said = f"registry\n{'a' * 64}\n"
    monkeypatch.setattr(engine, "run", lambda argv, **_: subprocess.CompletedProcess(argv, 0, said, ""))
    (tmp_path / "facts-1").write_text(left)
    assert images._facts({"Id": "sha256:1"}) == ["registry", "a" * 64]
    monkeypatch.delattr(engine, "run")
    assert images._facts({"Id": "sha256:1"}) == ["registry", "a" * 64]


def test_an_image_that_another_command_removes_meanwhile_is_a_message(monkeypatch):
    monkeypatch.setattr(images, "_inspect", lambda _: {})
    monkeypatch.setattr(images, "_build", lambda *_: None)
    monkeypatch.setattr(base, "decide", lambda: None)
    with pytest.raises(images.ImageBuildError, match=r"agenttrace-server:.*removed by another command meanwhile"):
        images.build(targets=["server"])


def test_finished_steps_are_told_once_with_their_duration():
    steps = {}
    told = [
        images.finished_step(line, steps)
        for line in (
            "#1 [internal] load build definition",
            "#1 DONE 0.5s",
            "#7 [server 1/2] RUN apt",
            "#7 3.1 Setting up",
            "#7 DONE 4.2s",
            "#8 [server 2/2] RUN x",
            "#8 CACHED",
        )
    ]
    assert [step for step in told if step] == ["server 1/2: 4.2 s"]


def test_steps_taken_from_another_build_are_found_and_a_base_is_none():
    log = """#1 [base 1/2] FROM docker.io/library/debian:forky
#1 CACHED
#2 [internal] load build definition from Dockerfile
#2 CACHED
#3 [base 2/2] RUN apt-get
#3 CACHED
#4 [python 1/1] RUN apt-get
#4 4.1 a line that says #3 CACHED
#4 DONE 4.2s
#5 [collector 1/7] COPY --from=collector-build /opt /opt
#5 CACHED
#5 CACHED
"""
    assert images.reused_steps(log) == ["base 2/2", "collector 1/7"]


def test_a_failed_build_shows_its_end_and_names_its_log(tmp_path, monkeypatch):
    docker = """case "$1 $2" in
        "image inspect") [ $# -gt 5 ] ;;
        "context show") echo default ;;
        "buildx imagetools") exit 0 ;;
        *) i=0; while [ $i -lt 50 ]; do i=$((i + 1)); echo "line $i"; done; exit 1 ;;
        esac"""
    programs(tmp_path, monkeypatch, docker=docker)
    monkeypatch.setattr(images, "_log_folder", lambda: tmp_path)
    with pytest.raises(images.ImageBuildError) as raised:
        images.build()
    message = str(raised.value)
    assert str(tmp_path / "image-collector.log") in message
    assert "line 50" in message
    assert "line 21" in message
    assert "line 20\n" not in message
    assert (tmp_path / "image-collector.log").read_text().startswith("line 1\n")


def inside(image, script, *options):
    argv = ["docker", "run", "--rm", "--network", "none", *options, "--entrypoint", "sh", image, "-c", script]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def built():
    try:
        engine.check()
    except UsageError as error:
        pytest.skip(str(error))
    return images.build()


@pytest.mark.docker
def test_a_second_build_finds_all_images(built, capsys):
    capsys.readouterr()
    assert images.build() == built
    assert capsys.readouterr().err == ""
    assert set(built.environment_digests) == set(images.TARGETS)
    assert all(len(digest) == 64 for digest in built.environment_digests.values())


@pytest.mark.docker
@pytest.mark.parametrize("target", images.TARGETS)
def test_the_environment_digest_covers_the_list(built, target):
    ended = inside(built.names[target], "tail -n +2 /etc/agenttrace/environment.txt | sha256sum")
    assert ended.stdout.split()[0] == built.environment_digests[target]
    known = inside(built.names["collector"], f"cat /etc/agenttrace/images/{target}.sha256")
    assert known.stdout.strip() == built.environment_digests[target]


ORIGIN = """
rm -f /etc/apt/sources.list; echo registry >/etc/agenttrace/base-origin
echo 'Types: deb' >/etc/apt/sources.list.d/debian.sources; echo 'APT::x "y";' >/etc/apt/apt.conf.d/docker-clean
"""


@pytest.mark.docker
@pytest.mark.parametrize(("change", "same"), [(ORIGIN, True), ("echo '#' >>/opt/agenttrace/tools/interpret.py", False)])
def test_the_environment_digest_tells_content_and_not_where_the_base_came_from(built, change, same):
    listing = (base.ROOT / "docker/environment.sh").read_text()
    ended = inside(
        built.names["sandbox"], f"{change}\nset -- /opt/agenttrace\n{listing}\ncat /etc/agenttrace/environment.sha256"
    )
    assert (ended.stdout.strip() == built.environment_digests["sandbox"]) is same, ended.stderr


@pytest.mark.docker
def test_a_compiled_program_is_listed_by_its_sources(built):
    listed = inside(built.names["sandbox"], "cat /etc/agenttrace/environment.txt").stdout.splitlines()
    helper = inside(built.names["sandbox"], "sha256sum /opt/agenttrace/call-helper").stdout.split()[0]
    assert listed[0].endswith(f" {helper} /opt/agenttrace/call-helper")
    assert [line for line in listed[1:] if "call-helper" in line] == [line for line in listed if line[:6] == "built "]
    assert [line for line in listed[1:] if line.startswith("deb ") and "+b" in line.split()[2][-4:]] == []


@pytest.mark.docker
def test_the_server_is_the_pinned_one(built):
    ended = inside(built.names["server"], "llama-server --version; id -u", "--read-only", "--cap-drop", "ALL")
    assert "build 11669" in ended.stdout + ended.stderr
    assert ended.stdout.endswith("10001\n")


@pytest.mark.docker
def test_the_collector_runs_as_any_user_with_nothing_writable(built):
    script = "python -c 'import agenttrace, httpx2, msgspec, openai, psutil, rich, sys; print(sys.version_info[:2])'"
    ended = inside(built.names["collector"], script, "--read-only", "--user", "12345:12345")
    assert ended.stdout == "(3, 14)\n", ended.stderr


@pytest.mark.docker
def test_the_sandbox_keeps_its_secrets_from_the_tools(built):
    name = built.names["sandbox"]
    assert inside(name, "find / -xdev -perm /6000").stdout == ""
    for path in ("/opt/agenttrace/runner/__main__.py", "/opt/agenttrace/fixtures/demo", "/run/agenttrace"):
        ended = inside(name, f"ls -d {path}/.. {path}/. && ls {path}", "--user", "20000:20000")
        assert "ermission denied" in ended.stderr, path
    assert inside(name, "test -r /opt/agenttrace/tools/interpret.py", "--user", "20000:20000").returncode == 0


@pytest.mark.docker
def test_no_trace_of_the_builder_stays_in_an_image(built):
    files = "find /var/lib/apt/lists /var/cache/apt /var/log -type f -size +0"
    look = f"cat /etc/apt/sources.list; ls /run/secrets; {files}"
    if built.base_origin == "mmdebstrap":
        for name in built.names.values():
            assert inside(name, f"{{ {look}; }} 2>/dev/null").stdout == "", name
