"""Where a campaign's records go and when it is the same campaign."""

from __future__ import annotations

import hashlib
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from msgspec import UNSET

from agenttrace.campaign.options import ROLLOUTS, Options, like, sampler_of
from agenttrace.campaign.plan import make_plan, request_part, write_run_spec
from agenttrace.errors import UsageError
from agenttrace.records import RunSpec, canonical_json
from agenttrace.serving import profiles
from agenttrace.store.read import read_run_spec, run_spec_path
from agenttrace.tasks import TASK_SETS

NOW = datetime(2026, 11, 2, 3, 4, 5, tzinfo=UTC)
IMAGES = {"server": "a" * 64, "sandbox": "b" * 64, "collector": "c" * 64}


def plan(folder, *, now=NOW, images=IMAGES, **options):
    return make_plan(Options(**options), images=images, folder=folder, now=now)


def write(made):
    write_run_spec(made.spec, made.path)


def test_a_new_campaign_is_named_after_data_set_model_and_time(tmp_path):
    made = plan(tmp_path)
    assert made.path.name == "demo_tiny_20261102T030405Z.jsonl"
    assert made.spec.run_id == "collect-tiny-20261102T030405Z-demo"
    assert not made.resumes


def test_the_same_command_later_finds_the_same_campaign(tmp_path):
    first = plan(tmp_path)
    write(first)
    second = plan(tmp_path, now=NOW + timedelta(days=3))
    assert second.resumes
    assert second.path == first.path
    assert second.spec == first.spec


@pytest.mark.parametrize(
    "changed", [{"count": 3}, {"max_steps": 4}, {"offset": 1}, {"run_id": "other"}, {"fresh": True}]
)
def test_another_command_is_another_campaign(tmp_path, changed):
    write(plan(tmp_path))
    assert not plan(tmp_path, now=NOW + timedelta(seconds=1), **changed).resumes


def test_other_images_are_another_campaign(tmp_path):
    write(plan(tmp_path))
    assert not plan(tmp_path, now=NOW + timedelta(seconds=1), images={**IMAGES, "sandbox": "d" * 64}).resumes


def test_a_given_file_of_another_campaign_is_refused_and_the_field_named(tmp_path):
    write(plan(tmp_path, output="mine.jsonl"))
    with pytest.raises(UsageError, match=r"agent\.max_steps: 5 / 10"):
        plan(tmp_path, output="mine.jsonl", max_steps=5)


def test_a_given_file_made_with_another_image_is_refused_and_the_image_named(tmp_path):
    write(plan(tmp_path, output="mine.jsonl"))
    with pytest.raises(UsageError, match=r'the image of the sandbox \(images\.sandbox\): "dd'):
        plan(tmp_path, output="mine.jsonl", images={**IMAGES, "sandbox": "d" * 64})


def test_a_file_with_records_but_without_a_run_spec_is_refused(tmp_path):
    (tmp_path / "mine.jsonl").write_text('{"trace_id": "1"}\n')
    with pytest.raises(UsageError, match="no run spec"):
        plan(tmp_path, output="mine.jsonl")


def test_unreadable_run_specs_of_others_do_not_disturb(tmp_path):
    (tmp_path / "old.run.json").write_text("{}")
    (tmp_path / "odd.run.json").write_bytes(b"\xff")
    (tmp_path / "text.run.json").write_bytes(b'{"run_id": "\xff\xfe"}')
    os.mkfifo(tmp_path / "pipe.run.json")
    (tmp_path / "folder.run.json").mkdir()
    assert not plan(tmp_path).resumes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "nobody/none"}, "unknown model"),
        ({"dataset": "none"}, "unknown task set"),
        ({"profile": "none"}, "unknown serving profile"),
        ({"offset": 1000}, "is outside"),
        ({"count": 0}, "is outside"),
        ({"run_id": "a/b"}, "run id"),
        ({"output": "a.txt"}, "ends in .jsonl"),
        ({"output": "a.failures.jsonl"}, r"--output a\.failures\.jsonl: .*, and not in \.failures\.jsonl"),
        ({"output": "a.jsonl", "fresh": True}, "--fresh"),
        ({"rollouts": 0}, "--rollouts: 0 is outside"),
        ({"context": 1}, "--context: 1 is outside"),
        ({"sampler": "none"}, "unknown sampler 'none'; known: greedy, recommended"),
        ({"model": "a b", "external": True}, "expected a name such as"),
        ({"max_steps": 0}, "--max-steps: 0 is outside 1 to 1000"),
        ({"call_limit_ms": 10**15}, "--call-limit"),
        ({"agent": "none"}, "unknown agent 'none'; known: tool_calling, bash_block"),
        ({"temperature": 3.0}, "--temperature: 3.0 is outside 0 to 2"),
        ({"max_total_tokens": 10**6}, "--max-total-tokens"),
    ],
)
def test_what_cannot_be_is_refused_with_what_was_expected(tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        plan(tmp_path, **options)


def test_trace_ids_differ_by_task_and_stay_the_same_for_a_task(tmp_path):
    made = plan(tmp_path, run_id="run-1")
    ids = [made.trace_id(task) for task in made.tasks]
    assert len(set(ids)) == len(ids)
    part = plan(tmp_path, run_id="run-1", offset=2, count=1)
    assert part.trace_id(part.tasks[0]) == ids[2]


def test_metadata_is_the_same_bytes_whatever_the_time(tmp_path):
    one = plan(tmp_path / "a", run_id="run-1", now=NOW)
    two = plan(tmp_path / "b", run_id="run-1", now=NOW + timedelta(days=400))
    assert [canonical_json(one.metadata(task)) for task in one.tasks] == [
        canonical_json(two.metadata(task)) for task in two.tasks
    ]


def test_a_run_spec_survives_its_file(tmp_path):
    made = plan(tmp_path)
    write(made)
    text = (tmp_path / "demo_tiny_20261102T030405Z.run.json").read_bytes()
    assert msgspec.json.decode(text, type=RunSpec) == made.spec
    assert b'"system_prompt"' in text


def test_a_resumed_campaign_sends_its_tool_schemas_byte_for_byte_as_before(tmp_path):
    """The order of keys in a schema is part of the prompt."""
    first = plan(tmp_path)
    write(first)
    again = plan(tmp_path)
    assert again.resumes
    assert json.dumps(again.spec.agent.tools) == json.dumps(first.spec.agent.tools)
    assert json.dumps(read_run_spec(run_spec_path(first.path)).agent.tools) == json.dumps(first.spec.agent.tools)


def test_every_task_is_run_as_often_as_asked_for_with_an_id_and_a_seed_of_its_own(tmp_path):
    made = plan(tmp_path, count=3, rollouts=4, run_id="run-1")
    jobs = list(made.jobs())
    assert [(task.task_id, task.rollout) for task in jobs] == [(i, r) for r in range(4) for i in range(3)]
    assert len({made.trace_id(task) for task in jobs}) == made.size == 12
    assert made.spec.dataset.rollouts == 4
    rows = [made.metadata(task) for task in jobs]
    assert [row["rollout_index"] for row in rows] == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    assert [row["seed"] - made.spec.sampler.seed for row in rows] == [row["rollout_index"] for row in rows]
    once = plan(tmp_path / "other", count=3, run_id="run-1")
    assert [once.trace_id(task) for task in once.jobs()] == [made.trace_id(task) for task in jobs[:3]]


def test_a_run_id_of_a_campaign_with_another_spec_is_refused_and_the_field_named(tmp_path):
    """Two files with the same trace ids for other tasks would be two truths."""
    write(plan(tmp_path, run_id="mine", count=3))
    with pytest.raises(UsageError, match=r"run id mine \(.*\) belongs to .*\n  dataset\.count: 5 / 3"):
        plan(tmp_path, run_id="mine", count=5)
    with pytest.raises(UsageError, match=r"model\.context_length: 2048 / 16384"):
        plan(tmp_path, run_id="mine", count=3, context=2048)


def test_a_shared_stamp_names_the_file_unless_another_campaign_has_it(tmp_path):
    write(plan(tmp_path, stamp="20250101T000000Z"))
    assert (tmp_path / "demo_tiny_20250101T000000Z.run.json").exists()
    other = plan(tmp_path, stamp="20250101T000000Z", count=3)
    assert other.path.name == "demo_tiny_20261102T030405Z.jsonl"


def value(serving, flag):
    return serving.args[serving.args.index(flag) + 1]


def test_profiles_say_in_the_run_spec_what_they_are(tmp_path):
    names = ("reproducible", "throughput", "stateless")
    calm, busy, alone = (plan(tmp_path, profile=name).spec.serving for name in names)
    assert (calm.slots, calm.cache_prompt, calm.prompt_reuse, calm.reproducible) == (1, True, "trace", True)
    assert (alone.slots, alone.cache_prompt, alone.prompt_reuse, alone.reproducible) == (1, False, UNSET, True)
    assert busy.slots > 1
    assert (busy.cache_prompt, busy.prompt_reuse, busy.reproducible) == (True, UNSET, False)
    for serving in (calm, busy, alone):
        assert int(value(serving, "--ctx-size")) == 16384 * serving.slots
        assert value(serving, "--flash-attn") == "on"
        assert "--jinja" in serving.args
        assert value(serving, "--parallel") == str(serving.slots)
        assert value(serving, "--poll") == "0"
    for serving in (calm, alone):
        assert "--no-cache-prompt" in serving.args
        assert value(serving, "--cache-ram") == value(serving, "--ctx-checkpoints") == "0"
    assert "--cache-prompt" in busy.args
    assert float(value(busy, "--slot-prompt-similarity")) == 0
    assert int(value(busy, "--cache-ram")) > 0


def test_a_run_spec_is_planned_again_with_the_version_of_its_profile(tmp_path):
    now = plan(tmp_path, profile="throughput").spec.serving
    then = plan(tmp_path, profile="throughput", profile_version=2, output="then.jsonl").spec
    assert (now.profile_version, then.serving.profile_version) == (3, 2)
    assert "--slot-prompt-similarity" not in then.serving.args
    assert make_plan(like(then), images={}, folder=tmp_path, now=NOW).spec.serving == then.serving
    with pytest.raises(UsageError, match=r"'throughput' has no version 9; known: 3, 2, 1"):
        plan(tmp_path, profile="throughput", profile_version=9)


def test_a_run_spec_of_before_is_planned_as_it_was(tmp_path):
    now = plan(tmp_path).spec
    (file,) = (Path(__file__).parents[2] / "datasets" / "agenttrace-demo" / "records").glob("*.run.json")
    then = read_run_spec(file)
    made = make_plan(like(then), images=then.images, folder=tmp_path, now=NOW).spec
    assert made.serving == then.serving
    assert made.model == then.model
    assert request_part(made)["extra_body"]["cache_prompt"] is False
    assert now.serving != then.serving
    assert make_plan(like(now), images={}, folder=tmp_path, now=NOW).spec.serving == now.serving
    assert "cache_prompt" not in request_part(now)["extra_body"]  # every request says for itself


@pytest.mark.parametrize(("cpus", "threads"), [(1, (1, 1)), (2, (1, 2)), (8, (7, 8))])
def test_threads_leave_a_core_to_others_while_tokens_are_generated(tmp_path, cpus, threads):
    spec = plan(tmp_path, model="Qwen/Qwen3-0.6B", cpus=cpus).spec
    assert (spec.model.threads, profiles.threads_of(spec.serving)) == (threads[0], threads)


def test_a_campaign_keeps_its_threads_where_others_would_be_chosen(tmp_path):
    asked = {"model": "Qwen/Qwen3-0.6B"}
    begun = plan(tmp_path, cpus=2, **asked)
    write(begun)
    again = plan(tmp_path, cpus=8, **asked)
    assert again.resumes
    assert again.spec == begun.spec
    other = plan(tmp_path, cpus=8, threads=(7, 8), **asked)
    assert not other.resumes
    assert profiles.threads_of(other.spec.serving) == (7, 8)
    with pytest.raises(UsageError, match=r"--threads: 0 is outside 1 to 1024"):
        plan(tmp_path, threads=(0, 1))
    with pytest.raises(UsageError, match="--threads is for a server that is started here"):
        plan(tmp_path, threads=(1, 1), external=True)


def test_an_endpoint_may_serve_a_model_that_is_not_pinned_and_the_run_spec_says_so(tmp_path):
    made = plan(tmp_path, model="Qwen/Qwen3-1.7B-Foo", external=True, sampler="recommended")
    assert made.path.name == "demo_1_7B_20261102T030405Z.jsonl"
    assert made.spec.serving.engine == "external"
    assert made.spec.serving.args == ()
    assert made.spec.model.sha256 == "not reported"
    assert made.spec.model.context_length == 16384
    assert (made.spec.sampler.name, made.spec.sampler.temperature) == ("qwen3", 0.6)
    assert plan(tmp_path, external=True).spec.model == plan(tmp_path).spec.model
    with pytest.raises(UsageError, match="no sampler is on record"):
        plan(tmp_path, model="other/model", external=True, sampler="recommended")


def test_the_newest_of_several_equal_campaigns_is_resumed(tmp_path):
    write(plan(tmp_path))
    later = plan(tmp_path, now=NOW + timedelta(days=1), fresh=True)
    write(later)
    old = tmp_path / "demo_tiny_20261102T030405Z.run.json"
    copy = tmp_path / "zzz.run.json"
    copy.write_bytes(old.read_bytes())
    os.utime(copy, (1, 1))
    assert plan(tmp_path, now=NOW + timedelta(days=2)).path == later.path


@pytest.mark.parametrize("dataset", TASK_SETS)
def test_no_task_set_may_write_where_infrastructure_failures_are_kept(tmp_path, dataset):
    """`x.jsonl` keeps infrastructure failures in `x.failures.jsonl`: as an output it would be two files in one."""
    with pytest.raises(UsageError, match=r"--output x\.failures\.jsonl"):
        plan(tmp_path, dataset=dataset, output="x.failures.jsonl")


def test_runs_of_a_task_differ_whatever_the_model():
    known, unknown, greedy = (
        sampler_of(msgspec.structs.replace(ROLLOUTS, **fields))
        for fields in ({}, {"model": "x/y", "external": True}, {"model": "x/y", "external": True, "sampler": "greedy"})
    )
    assert (known.name, known.temperature) == ("demo-swe", 0.7)
    assert (unknown.name, unknown.temperature, unknown.top_p, unknown.top_k) == ("temperature-1", 1.0, 1.0, 0)
    assert greedy.temperature == 0.0


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ({}, "greedy"),
        ({"model": "HuggingFaceTB/SmolLM2-135M-Instruct"}, "greedy"),
        ({"model": "Qwen/Qwen3-0.6B"}, "qwen3"),
        ({"model": "Qwen/Qwen3-0.6B", "thinking": 256}, "qwen3"),
        ({"model": "Qwen/Qwen3-0.6B", "thinking": "off"}, "greedy"),
        ({"model": "Qwen/Qwen3-0.6B", "sampler": "greedy"}, "greedy"),
        ({"model": "Qwen/Qwen3-8B", "external": True}, "qwen3"),
    ],
)
def test_a_model_that_thinks_is_decoded_as_its_makers_advise_and_the_user_is_told(tmp_path, asked, name):
    spec = plan(tmp_path, **asked).spec
    assert spec.sampler.name == name
    told = profiles.told_of_sampling(spec.model.name, spec.sampler)
    assert (told is not None) == (name == "qwen3")
    assert told is None or ("temperature 0.6" in told and f"seed {spec.sampler.seed}" in told)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"agent": "bash_block", "max_steps": 3, "observation": "mini-swe-agent", "max_total_tokens": 999},
        {"count": 2, "offset": 3, "rollouts": 5, "seed": 3, "temperature": 0.5, "max_output_tokens": 77},
        {"model": "x/y-3B", "external": True, "context": 2048, "call_limit_ms": 77, "agent": "bash_block"},
        {"profile": "throughput", "max_steps": 3, "call_limit_ms": 5000},
        {"temperature": 0.0},
        {"model": "Qwen/Qwen3-0.6B"},
        {"model": "Qwen/Qwen3-0.6B", "sampler": "greedy"},
        {"model": "Qwen/Qwen3-0.6B", "sampler": "recommended", "top_p": 0.5, "thinking": 256},
        {"model": "Qwen/Qwen3-0.6B", "temperature": 0.7, "top_p": 0.9, "thinking": "off", "agent": "bash_block"},
        {"system_prompt": "Be brief.", "top_p": 0.5},
        {"system_prompt": "Be brief.", "agent": "bash_block"},
        {"model": "Qwen/Qwen3-0.6B", "temperature": 0.6, "max_output_tokens": 8192, "agent": "bash_block"},
    ],
)
def test_a_run_spec_is_planned_again_from_itself(tmp_path, options):
    made = plan(tmp_path, run_id="run-1", **options)
    assert make_plan(like(made.spec), images=IMAGES, folder=tmp_path, now=NOW).spec == made.spec


def test_thinking_and_top_p_are_in_every_request_and_a_prompt_of_the_users_is_the_first_message(tmp_path):
    asked = {"model": "Qwen/Qwen3-0.6B", "top_p": 0.9, "thinking": 512, "system_prompt": "Be brief."}
    made = plan(tmp_path, **asked)
    assert request_part(made.spec)["top_p"] == 0.9
    extra = request_part(made.spec)["extra_body"]
    assert (extra["chat_template_kwargs"], extra["thinking_budget_tokens"]) == ({"enable_thinking": True}, 512)
    off = request_part(plan(tmp_path, **asked | {"thinking": "off"}).spec)["extra_body"]
    assert (off["chat_template_kwargs"], "thinking_budget_tokens" in off) == ({"enable_thinking": False}, False)
    assert made.spec.agent.system_prompt == "Be brief."
    meta = made.metadata(made.tasks[0])
    assert (meta["sampler"], meta["thinking"]) == ("qwen3+top_p-0.9", 512)
    assert (
        meta["prompt_sha256"]
        != plan(tmp_path, **asked | {"system_prompt": "Be."}).metadata(made.tasks[0])["prompt_sha256"]
    )


def test_what_nobody_asked_for_is_in_no_run_spec_request_or_record(tmp_path):
    made = plan(tmp_path)
    assert not {"thinking", "system_prompt_from"} & {
        *msgspec.to_builtins(made.spec.sampler),
        *msgspec.to_builtins(made.spec.agent),
    }
    assert "chat_template_kwargs" not in request_part(made.spec)["extra_body"]
    assert not {"thinking", "prompt_sha256"} & {*made.metadata(made.tasks[0])}


def test_what_holds_replies_to_a_form_goes_with_every_request_instead_of_the_tools(tmp_path):
    held = plan(tmp_path, constrained="on").spec
    sent = request_part(held)
    assert sent["response_format"]["json_schema"]["schema"] == held.agent.reply_form.schema
    assert "tools" not in sent
    blocks = plan(tmp_path, constrained="on", agent="bash_block").spec
    assert request_part(blocks)["grammar"] == blocks.agent.grammar
    free = plan(tmp_path).spec
    assert not {"response_format", "grammar"} & {*request_part(free)}
    assert b"reply_form" not in canonical_json(free)
    for spec in (held, blocks, free):
        assert like(spec).constrained == ("off" if spec is free else "on")


def test_a_model_whose_template_shows_no_tools_is_held_to_a_form_unless_people_say_otherwise(tmp_path):
    smol = "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert plan(tmp_path, model=smol).spec.agent.reply_form is not UNSET
    assert plan(tmp_path, model=smol, agent="bash_block").spec.agent.grammar is not UNSET
    assert plan(tmp_path, model=smol, constrained="off").spec.agent.reply_form is UNSET
    shows = "{{ tools }}{{ messages }}"
    assert plan(tmp_path, model=smol, chat_template=shows).spec.agent.reply_form is UNSET


def test_a_template_of_ones_own_stands_in_the_run_spec_and_a_base_model_needs_one(tmp_path):
    with pytest.raises(UsageError, match=r"is a base model: .*--chat-template plain"):
        plan(tmp_path, model="google/gemma-3-270m")
    text = "{% for message in messages %}\n{{ message.content }}{% endfor %}"
    spec = plan(tmp_path, model="google/gemma-3-270m", chat_template=text).spec
    assert spec.serving.args[-2:] == ("--chat-template", text)
    assert spec.model.chat_template_sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert spec.agent.reply_form is not UNSET
    assert like(spec).chat_template == text
    with pytest.raises(UsageError, match="an endpoint that runs already has its own"):
        plan(tmp_path, model="me/mine", external=True, chat_template=text)
