"""The pinned clock as the tools of the real sandbox image see it."""

from __future__ import annotations

import time
import uuid

import pytest

from agenttrace.host.workers import SandboxContainer, sandbox_project

pytestmark = pytest.mark.docker
INSTANT = "2024-05-05T12:30:00Z"


@pytest.fixture(scope="module")
def worker():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AGENTTRACE_INSTANCE", uuid.uuid4().hex[:8])
        with sandbox_project("clock") as (project, env):
            container = SandboxContainer(project, env)
            yield container.worker
            container.close()


@pytest.fixture
def pinned(worker):
    def call(code, kind="bash"):
        return worker.call(kind, code, limit_ms=10_000)

    assert worker.info.clock
    worker.reset("empty", clock=INSTANT)
    return call


def test_every_program_of_a_call_sees_the_same_instant(pinned):
    assert pinned("date -u +%FT%TZ; sleep 1.1; date -u +%FT%T.%NZ; awk 'BEGIN { print systime() }'").stdout.text == (
        "2024-05-05T12:30:00Z\n2024-05-05T12:30:00.000000000Z\n1714912200\n"
    )
    assert pinned("import time; time.time()", kind="python").stdout.text == "1714912200.0\n"


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York", "JST-9", "nonsense"])
def test_a_time_zone_moves_what_is_shown_and_not_the_instant(pinned, zone):
    programs = "date +%s; awk 'BEGIN { print systime() }'; python3 -c 'import time; print(int(time.time()))'"
    code = f"export TZ={zone}; {programs}; touch -d @1714911000 a; find a -mmin -21; find a -mmin +19"
    assert pinned(code).stdout.text.split() == ["1714912200"] * 3 + ["a", "a"]
    if zone == "Asia/Tokyo":
        assert pinned(f"TZ={zone} date +%FT%T%z").stdout.text == "2024-05-05T21:30:00+0900\n"


def test_sleeps_limits_and_the_monotonic_clock_go_on(pinned):
    assert pinned("timeout 0.2 sleep 9; echo $?").stdout.text == "124\n"
    code = "import time; a = time.monotonic(); time.sleep(0.3); print(0.2 < time.monotonic() - a < 5)"
    assert pinned(code, kind="python").stdout.text == "True\n"


def test_the_telemetry_is_not_pinned(pinned):
    before_ns = time.time_ns()
    report = pinned("sleep 0.3; seq 100000 | sort -R >/dev/null")
    assert before_ns <= report.start_ns <= report.end_ns <= time.time_ns()
    assert 300_000_000 <= report.telemetry.wall_ns <= report.end_ns - report.start_ns + 10**7
    assert report.telemetry.cpu_user_ns + report.telemetry.cpu_system_ns > 10_000_000


def test_the_age_of_a_file_is_counted_from_the_instant(pinned):
    code = "touch -d 2024-05-05T12:00:00Z a; touch -d 2024-05-05T12:29:00Z b; find a b -mmin +5"
    assert pinned(code).stdout.text == "a\n"


def test_nothing_is_left_in_shared_memory_and_the_next_reset_ends_it(pinned, worker):
    assert pinned("ls -A /dev/shm").stdout.text == ""
    worker.reset("empty")
    text = pinned("date +%Y; env | grep -c -e FAKE -e LD_PRELOAD").stdout.text
    assert text.split()[1] == "0"
    assert int(text.split()[0]) >= time.gmtime().tm_year
