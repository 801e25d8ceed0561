"""The battery as data, and how answers are judged."""

import argparse
import re
from pathlib import Path

import pytest

from agenttrace.errors import UsageError
from agenttrace.probes.attack import Result, judge
from agenttrace.probes.battery import FILE, MESSAGE, Probe, battery, elf
from agenttrace.probes.report import BatteryOutcome, summary
from agenttrace.records import Output
from agenttrace.sandbox.policies import policies
from agenttrace.sandbox.reports import CallReport
from agenttrace.telemetry.normalise import telemetry
from agenttrace.verbs import probe_sandbox
from agenttrace.verbs.output import write_json


def test_there_are_sixty_probes_and_no_name_twice():
    names = [probe.name for probe in battery()]
    assert len(names) == len(set(names)) >= 60


@pytest.mark.parametrize("policy", policies())
def test_every_policy_is_attacked_by_sixty_probes_or_more(policy):
    assert sum(policy in probe.policies for probe in battery()) >= 60


def test_a_policy_of_the_table_can_be_named(monkeypatch):
    monkeypatch.setattr(probe_sandbox, "policies", lambda: {"third": None})
    parser = argparse.ArgumentParser()
    probe_sandbox.add(parser)
    assert parser.parse_args(["--policy", "third"]).policy == ["third"]


def test_every_probe_says_what_success_and_refusal_look_like():
    for probe in battery():
        assert probe.breach, probe.name
        assert probe.refused, probe.name
        assert probe.why, probe.name
        assert {*probe.policies} | {*probe.not_applicable} == {*policies()}, probe.name
        assert all(probe.not_applicable.values()), probe.name


def test_no_probe_takes_silence_for_success_or_for_refusal():
    for probe in battery():
        silence = f"[status {probe.ends[0]}, exit code 0]"
        assert not re.search(probe.breach, silence, re.MULTILINE), probe.name
        if probe.ends == ("ok",):
            assert not re.search(probe.refused, silence, re.MULTILINE), probe.name


def test_every_group_of_attacks_is_there():
    assert {probe.group for probe in battery()} == {
        "network", "files", "proc", "leftover", "survivor", "signal", "privilege", "write", "resource", "tree",
        "interpreter", "native", "escape", "exfiltration", "discovery", "persistence", "lateral",
    }  # fmt: skip


def test_the_scenarios_of_others_stand_in_the_documentation():
    said = (Path(__file__).parents[2] / "docs" / "sandbox.md").read_text(encoding="utf-8")
    groups = ("escape", "exfiltration", "discovery", "persistence", "lateral")
    named = re.findall(rf"`((?:{'|'.join(groups)})-[a-z-]+)`", said)
    assert {*named} == {probe.name for probe in battery() if probe.group in groups}


@pytest.mark.parametrize("arch", ["amd64", "arm64"])
def test_the_dropped_program_is_an_elf_file_of_the_architecture(arch):
    for library in (False, True):
        data = elf(arch, library=library)
        assert data.startswith(b"\x7fELF\x02\x01\x01")
        assert data[16] == (3 if library else 2)
        assert MESSAGE in data


def test_an_unknown_architecture_is_a_usage_error():
    with pytest.raises(UsageError, match="no machine code for riscv64"):
        elf("riscv64")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        pytest.param('name = "network-dns"', 'name = "network-interfaces"', "two probes are called", id="name twice"),
        pytest.param("breach = 'interface (?!lo\\b)'", "breach = '('", "is no pattern", id="pattern"),
        pytest.param("breach = 'interface (?!lo\\b)'", "breach = ''", "empty pattern", id="no criterion"),
        pytest.param("breach = 'interface (?!lo\\b)'", "", "breach", id="criterion missing"),
        pytest.param('policies = ["shell", "execution_free"]', 'policies = ["shell"]', "must name each", id="policy"),
        pytest.param("planted = 'at /'", "", "needs both", id="nothing planted"),
        pytest.param("{{roots}}", "{{rots}}", "names no text", id="text"),
    ],
)
def test_data_that_is_wrong_is_refused_with_its_reason(tmp_path, old, new, message):
    text = FILE.read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "probes.toml").write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(UsageError, match=message):
        battery(file=tmp_path / "probes.toml")


def probe(**fields):
    base = {"name": "x-y", "policies": ("shell",), "why": "w", "command": "c", "breach": "BAD", "refused": "denied"}
    return Probe(**(base | fields))


def answer(stdout="", stderr="", status="ok", kept=None):
    def stream(text):
        size = len(text)
        return Output(text=text, bytes_total=size, bytes_kept=size if kept is None else kept, encoding="utf-8")

    return CallReport(
        exit_code=0, signal=None, status=status, stdout=stream(stdout), stderr=stream(stderr),
        telemetry=telemetry({}), start_ns=0, end_ns=1,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "answers", "verdict"),
    [
        ({}, [answer(stderr="denied")], "held"),
        ({}, [answer("BAD", "denied")], "GOT THROUGH"),
        ({}, [answer("nothing")], "unclear"),
        ({}, [answer("denied", status="timeout")], "GOT THROUGH"),
        ({"ends": ("timeout",)}, [answer("denied", status="timeout")], "held"),
        ({"then": "t", "planted": "BAD"}, [answer("BAD"), answer("denied")], "held"),
        ({"then": "t", "planted": "SET"}, [answer("BAD"), answer("denied")], "unclear"),
        ({"then": "t", "planted": "denied"}, [answer("denied"), answer("BAD")], "GOT THROUGH"),
        ({}, [answer("denied", kept=10**6)], "GOT THROUGH"),
        ({"breach": "^BAD"}, [answer("a\nBAD\n")], "GOT THROUGH"),
    ],
)
def test_an_answer_is_judged_by_what_it_shows(fields, answers, verdict):
    assert judge(probe(**fields), answers)[0] == verdict


def test_evidence_holds_nothing_that_a_terminal_obeys():
    _, evidence = judge(probe(), [answer("denied \x1b]0;title\x07 \x9b31m")])
    assert evidence.startswith("denied \\x1b]0;title\\x07 \\x9b31m")


def outcome(*verdicts):
    results = tuple(Result(name="x", policy="shell", verdict=v, evidence="e", duration_ms=1) for v in verdicts)
    return BatteryOutcome(environment_digests={}, kernel="k", engine_version="1", duration_ms=1, results=results)


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [(["held", "not applicable"], 0), (["held", "GOT THROUGH"], 1), (["held", "unclear"], 1)],
)
def test_the_status_is_zero_only_when_all_was_tried_and_nothing_got_through(verdicts, code):
    assert outcome(*verdicts).exit_code == code


def test_the_summary_counts_every_verdict():
    assert summary(outcome("held", "held", "GOT THROUGH"), "shell") == (
        "shell: 3 probes: 2 held, 1 GOT THROUGH, 0 unclear, 0 not applicable"
    )


def test_results_are_written_as_json(tmp_path):
    write_json(tmp_path / "out.json", outcome("held"))
    assert '"verdict": "held"' in (tmp_path / "out.json").read_text()
