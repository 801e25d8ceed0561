"""`collect`, `rollouts` and `determinism`: one set of options, with one meaning and one set of limits."""

from __future__ import annotations

import argparse
from functools import cache
from importlib import import_module

import pytest

from agenttrace.campaign.options import ROLLOUTS, Options
from agenttrace.cli import main
from agenttrace.host import campaign, determinism, guard

VERBS = ("collect", "rollouts", "determinism")
OWN = {
    "collect": {"output", "fresh", "workers", "json"},
    "rollouts": {"output", "fresh", "workers", "json"},
    "determinism": {"repeat", "concurrency", "against", "vary_seed", "json", "keep"},
}
GIVEN = {
    "model": "owner/x-GGUF@main:x.gguf", "size": 5, "sha256": "a" * 64, "agent": "bash_block", "offset": 2, "count": 3,
    "rollouts": 4, "profile": "throughput", "threads": (1, 2), "request_limit_s": 900,
    "sampler": "greedy", "temperature": 0.5, "top_p": 0.9, "seed": 6,
    "thinking": 512, "context": 4096, "system_prompt": "Be brief.", "reply_details": ("figures", "logprobs"),
    "max_steps": 7, "call_limit_ms": 8000, "max_output_tokens": 9, "max_total_tokens": 1000,
    "observation": "mini-swe-agent", "source": "owner/rows@main", "split": "test", "languages": ("python", "go"),
    "accept_terms": True, "constrained": "on", "chat_template": "{{ messages }}",
    "hidden_tests": True, "repos": 2, "per_repo": 3, "run_id": "mine", "dataset": "demo",
    "repositories": "https://example.org/{repo}",
}  # fmt: skip
"""A value for every shared option, as it is asked for."""
FLAGS = {
    "count": "-n", "request_limit_s": "--request-limit", "call_limit_ms": "--call-limit",
    "max_output_tokens": "--max-tokens",
}  # fmt: skip


@cache
def actions(verb):
    parser = argparse.ArgumentParser()
    import_module(f"agenttrace.verbs.{verb}").add(parser)
    shown = [action for action in parser._actions if action.help != argparse.SUPPRESS]
    return {action.dest: action for action in shown if action.dest != "help"}


def words(folder):
    """Return a command line with every shared option; a text stands in a file of that folder."""
    found = [GIVEN["model"]]
    for name, value in GIVEN.items():
        values = [value] if isinstance(value, str | int | float) else value
        if name == "call_limit_ms":
            values = [8]  # in seconds
        if name in {"system_prompt", "chat_template"}:
            (folder / name).write_text(f"{value}\n")
            values = [folder / name]
        if name == "threads":
            values = ["1,2"]
        if name != "model":
            found += [FLAGS.get(name, f"--{name.replace('_', '-')}"), *map(str, () if value is True else values)]
    return found


def asked(monkeypatch, *argv):
    """Return the request that a command line becomes."""
    seen = []
    monkeypatch.setattr(campaign, "collect", lambda request: seen.append(request) or campaign.CampaignsEnd(0, ()))
    equal = determinism.DeterminismReport(passed=True, runs=[], inputs=[], tasks=[])
    monkeypatch.setattr(determinism, "determinism", lambda request: seen.append(request.each) or equal)
    with pytest.raises(SystemExit) as ended:
        main(list(argv))
    assert ended.value.code == 0
    return seen[0]


def test_they_take_the_same_options():
    shared = [{*actions(verb)} - OWN[verb] for verb in VERBS]
    assert shared[0] == shared[1] == shared[2] == {*GIVEN, "base_url"}
    for verb in VERBS:
        assert OWN[verb] <= {*actions(verb)}


@pytest.mark.parametrize("name", sorted({*GIVEN, "base_url"} - {"dataset"}))
def test_an_option_is_spelt_and_read_alike(name):
    first, *others = (actions(verb)[name] for verb in VERBS)
    for other in others:
        for fact in ("option_strings", "type", "choices", "nargs", "metavar"):
            assert getattr(other, fact) == getattr(first, fact)


def test_an_option_means_the_same(monkeypatch, tmp_path):
    beside = ["--output", str(tmp_path / "x.jsonl")]
    requests = [
        asked(monkeypatch, verb, *words(tmp_path), *([] if verb == "determinism" else beside)) for verb in VERBS
    ]
    for request, verb in zip(requests, VERBS, strict=True):
        (options,) = request.options
        for name in {*GIVEN} & {*Options.__struct_fields__}:
            assert getattr(options, name) == GIVEN[name], (verb, name)
        assert (request.size, request.sha256) == (GIVEN["size"], GIVEN["sha256"])
        assert request.places.repositories == GIVEN["repositories"]


def test_without_options_they_have_the_defaults_of_their_presets(monkeypatch, tmp_path):
    output = str(tmp_path / "x.jsonl")
    (collected,) = asked(monkeypatch, "collect", "--output", output).options
    (rolled,) = asked(monkeypatch, "rollouts", "--output", output).options
    named = {"output": "x.jsonl"}
    assert collected == Options(**named)
    assert {**as_dict(rolled), "output": None} == as_dict(ROLLOUTS)
    assert asked(monkeypatch, "determinism").options == (Options(),)


def as_dict(options):
    return {name: getattr(options, name) for name in options.__struct_fields__}


def test_a_file_or_folder_of_rows_is_a_place_and_a_name_on_the_hub_is_none(monkeypatch, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.touch()
    for verb in VERBS:
        assert asked(monkeypatch, verb, "--source", str(rows)).places.source == rows
        assert asked(monkeypatch, verb, "--source", "owner/rows@main").places.source is None
        assert asked(monkeypatch, verb).places.source is None


BAD = [
    (["--dataset", "none"], "unknown task set 'none'; known: demo, mbpp, nl2bash, swe"),
    (["--agent", "planner"], "invalid choice: 'planner'"),
    (["--profile", "fast"], "invalid choice: 'fast'"),
    (["--sampler", "hot"], "invalid choice: 'hot'"),
    (["--constrained", "On"], "invalid choice: 'On'"),
    (["--temperature", "3"], "--temperature: 3.0 is outside 0 to 2"),
    (["--dataset", "swe", "--languages", "kobol"], "the task set has 0 whose rows name one of the languages kobol"),
    (["--top-p", "1.5"], "--top-p: 1.5 is outside 0.001 to 1"),
    (["--thinking", "on"], "their template has no switch"),
    (["--thinking", "maybe"], "expected on, off, or a number of tokens"),
    (["--system-prompt", "nowhere.txt"], "cannot read nowhere.txt"),
    (["--dataset", "swe", "--source", "nowhere"], "nowhere: no such file or folder, and no OWNER/NAME@REVISION"),
    (["--seed", "-1"], "--seed: -1 is outside 0 to 2147483647"),
    (["--max-steps", "0"], "--max-steps: 0 is outside 1 to 1000"),
    (["--call-limit", "0"], "--call-limit: 0 is outside 1 to 3600000 ms"),
    (["--rollouts", "0"], "--rollouts: 0 is outside"),
    (["--max-total-tokens", "9999999"], "--max-total-tokens: 9999999 is outside 256 to"),
    (["--repositories", "nowhere"], "--repositories nowhere: there is no such file or folder"),
    (["--run-id", "../x"], "run id '../x'"),
    (["Qwen3-0.6B"], "unknown model 'Qwen3-0.6B' (did you mean Qwen/Qwen3-0.6B?)"),
]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(("argv", "message"), BAD, ids=[" ".join(argv) for argv, _ in BAD])
def test_a_mistake_has_the_same_message_before_anything_is_built(monkeypatch, capsys, tmp_path, verb, argv, message):
    def never(*_, **__):
        raise AssertionError("nothing is built or started for a mistake")

    monkeypatch.setattr(guard, "guarded", never)
    monkeypatch.setattr(determinism.place, "ROOT", tmp_path)
    if "--repositories" in argv:
        argv = [*argv, "--dataset", "swe"]
    with pytest.raises(SystemExit) as ended:
        main([verb, *argv])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said
    assert not list(tmp_path.glob("datasets/*"))


def test_a_template_is_a_file_of_some_size_or_one_of_the_kits_by_name(monkeypatch, tmp_path):
    request = asked(monkeypatch, "collect", "--chat-template", "plain", "--output", str(tmp_path / "a.jsonl"))
    assert request.options[0].chat_template.startswith("{%- for message in messages")
    (tmp_path / "long.jinja").write_text("x" * 70_000)
    with pytest.raises(SystemExit) as ended:
        main(["collect", "--chat-template", str(tmp_path / "long.jinja")])
    assert ended.value.code == 1  # data that is not read
