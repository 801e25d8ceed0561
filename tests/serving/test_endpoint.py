"""The server must be the one that the run spec names, as far as it says."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from agenttrace.campaign.options import Options
from agenttrace.campaign.plan import make_plan
from agenttrace.errors import ModelServerError, UsageError
from agenttrace.serving.endpoint import answers, check_base_url, check_server, wait_until_ready
from agenttrace.testing import ScriptedServer, fails

TEMPLATE = "{{ messages }}"


def facts(props=None, models=()):
    with ScriptedServer([], props, models=models) as server:
        return wait_until_ready(server.base_url, timeout_s=5)


def llama(**meta):
    return [{"id": "agenttrace-demo", "meta": {"size": 980_480, "ftype": "Q8_0", **meta}}]


@pytest.fixture
def make_spec(tmp_path):
    def make(**options):
        now = datetime(2026, 11, 2, tzinfo=UTC)
        return make_plan(Options(**options), images={}, folder=tmp_path, now=now).spec

    return make


@pytest.fixture
def spec(make_spec):
    return make_spec()


def test_a_server_that_reports_other_values_is_refused_with_both(spec):
    props = {"build_info": "b1-x", "default_generation_settings": {"n_ctx": 99}, "chat_template": TEMPLATE}
    found = facts({**props, "total_slots": 4}, [{"id": "other", "meta": {"size": 5, "ftype": "F16"}}])
    with pytest.raises(UsageError, match="'b1-x', the run spec names 'b11669-Debian'") as refusal:
        check_server(found, spec)
    for part in (
        "context_length: the server has 99, the run spec names 16384",
        "chat_template_sha256",
        "model: the server has 'other', the run spec names 'agenttrace-demo' or 'agenttrace-demo.gguf'",
        "quantization: the server has 'F16', the run spec names 'Q8_0'",
        "slots: the server has 4, the run spec names 1",
    ):
        assert part in str(refusal.value)
    assert "--context" not in str(refusal.value)


def test_a_model_that_was_made_for_less_context_is_told_by_how_much(spec):
    props = {"default_generation_settings": {"n_ctx": 8192}}
    with pytest.raises(UsageError, match=r"8192, the run spec names 16384 .*was made for no more: --context 8192\)"):
        check_server(facts(props, llama(n_ctx_train=8192)), spec)
    with pytest.raises(UsageError, match=r"the run spec names 16384$"):
        check_server(facts(props, llama(n_ctx_train=40960)), spec)


@pytest.mark.parametrize(
    ("pinned", "reported", "verdict"),
    [
        ("Q4_K_M", "Q4_K - Medium", "as pinned"),
        ("Q4_K_M", "(guessed) Q4_K - Medium", "as pinned"),
        ("F32", "all F32", "as pinned"),
        ("Q8_0", "Q8_0", "as pinned"),
        ("type 99", "unknown, may not work", "not pinned"),
        ("UD-Q4_K_XL", "Q4_K - Medium", "not pinned"),
    ],
)
def test_a_quantization_is_the_same_under_the_servers_name_for_it(spec, pinned, reported, verdict):
    spec = msgspec.structs.replace(spec, model=msgspec.structs.replace(spec.model, quantization=pinned))
    assert check_server(facts({}, llama(ftype=reported)), spec)["quantization"] == verdict


def test_another_quantization_of_the_same_family_is_refused(spec):
    spec = msgspec.structs.replace(spec, model=msgspec.structs.replace(spec.model, quantization="Q4_K_M"))
    with pytest.raises(UsageError, match="the server has 'Q4_K - Small', the run spec names 'Q4_K_M'"):
        check_server(facts({}, llama(ftype="Q4_K - Small")), spec)


def test_weights_of_another_size_are_another_model(spec):
    with pytest.raises(UsageError, match="weights_bytes: the server has 2000000"):
        check_server(facts({}, llama(size=2_000_000)), spec)


def test_what_a_server_does_not_report_is_said_and_not_held_against_it(spec):
    assert set(check_server(facts(), spec).values()) == {"not reported"}


def test_the_right_server_passes(spec):
    props = {
        "build_info": spec.serving.engine_version,
        "default_generation_settings": {"n_ctx": 16384},
        "total_slots": 1,
    }
    checks = check_server(facts(props, llama()), spec)
    assert checks.pop("chat_template_sha256") == "not reported"
    assert set(checks.values()) == {"as pinned"}


def test_vllm_is_checked_as_far_as_it_answers(make_spec):
    spec = make_spec(external=True, model="Qwen/Qwen3-8B")
    vllm = [{"id": "Qwen/Qwen3-8B", "object": "model", "max_model_len": 16384, "root": "/models/x"}]
    checks = check_server(facts(None, vllm), spec)
    assert checks == {
        "model": "as pinned",
        "context_length": "as pinned",
        "chat_template_sha256": "not reported",
        "quantization": "not reported",
        "weights_bytes": "not reported",
    }
    with pytest.raises(UsageError, match="context_length: the server has 40960, the run spec names 16384"):
        check_server(facts(None, [{**vllm[0], "max_model_len": 40960}]), spec)
    with pytest.raises(UsageError, match="model: the server has 'a' or 'b', the run spec names 'Qwen/Qwen3-8B'"):
        check_server(facts(None, [{"id": "a"}, {"id": "b"}]), spec)


def test_a_native_llama_server_that_names_its_file_is_known_by_the_artifact(make_spec):
    spec = make_spec(external=True)
    path = "/home/me/models/agenttrace-demo.gguf"
    found = facts({}, [{**llama()[0], "id": path}])
    assert found.models == ("agenttrace-demo.gguf",)  # a path may hold a user's name
    checks = check_server(found, spec)
    assert checks["model"] == checks["quantization"] == checks["weights_bytes"] == "as pinned"
    assert "build" not in checks  # another build is another machine's business; it stands in `environment`


def test_reports_of_the_wrong_type_count_as_none(spec):
    odd = {"build_info": 7, "default_generation_settings": [], "total_slots": "4", "chat_template": {}}
    found = facts(odd, [{"id": None, "meta": "x"}, 5])
    assert not any(value for value in msgspec.to_builtins(found).values())


def test_reports_that_no_record_could_hold_count_as_none_or_are_spelled_out():
    row = {"id": "m\ud800", "meta": {"size": -1, "n_params": 10**30, "n_ctx_train": 1 << 63, "ftype": "Q8"}}
    found = facts({"build_info": "b\ud800", "total_slots": -4}, [row])
    assert (found.models, found.build, found.quantization) == (("m\\ud800",), "b\\ud800", "Q8")
    assert (found.slots, found.weights_bytes, found.n_params, found.n_ctx_train) == (None, None, None, None)


def test_a_server_that_never_comes_is_an_error_after_the_time_limit():
    with ScriptedServer([]) as server:
        url = server.base_url
    with pytest.raises(ModelServerError, match=r"not ready after 0 s \(.*refused"):
        wait_until_ready(url, timeout_s=0.3)
    assert not answers(url)


def test_where_a_server_of_this_machine_must_listen_is_said_only_when_none_is_reached():
    with pytest.raises(ModelServerError, match=r"must listen on every interface \(llama-server --host 0\.0\.0\.0\)"):
        wait_until_ready("http://host.docker.internal.invalid:9/v1", timeout_s=0.1)
    with ScriptedServer([], redirects={}) as server:
        server.pages["/health"] = fails(503, "loading")
        with pytest.raises(ModelServerError, match=r"not ready after 0 s \(HTTP 503\)$"):
            wait_until_ready(server.base_url, timeout_s=0.1)


def test_any_answer_is_one_of_a_server_that_is_there():
    with ScriptedServer([]) as server:
        for status in (200, 403, 429, 503):
            server.pages["/v1/models"] = fails(status, "no")
            assert answers(server.base_url)


def test_the_key_is_in_no_fact_that_a_server_reports():
    with ScriptedServer([], {"build_info": "b1 sk-do-not-show"}, models=[{"id": "m-sk-do-not-show"}]) as server:
        found = wait_until_ready(server.base_url, timeout_s=5, key="sk-do-not-show")
    assert (found.build, found.models) == ("b1 <API key>", ("m-<API key>",))


def test_a_key_that_is_missing_or_wrong_is_said_at_once():
    with ScriptedServer([]) as server:
        server.pages["/v1/models"] = fails(401, "no")
        with pytest.raises(ModelServerError, match="a key is needed: set AGENTTRACE_API_KEY or OPENAI_API_KEY"):
            wait_until_ready(server.base_url, timeout_s=60)
        with pytest.raises(ModelServerError, match="the key is refused") as refusal:
            wait_until_ready(server.base_url, timeout_s=60, key="sk-1")
    assert "sk-1" not in str(refusal.value)


def test_the_key_is_not_sent_to_where_a_server_redirects():
    with ScriptedServer([], redirects={"/props": "http://127.0.0.1:9/props"}) as server:
        found = wait_until_ready(server.base_url, timeout_s=5, key="sk-1")
    assert found.build is None


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://me:secret@host/v1", "no name, password or query"),
        ("http://host/v1?key=secret", "no name, password or query"),
        ("localhost:8000/v1", "expected an address such as"),
        ("file:///etc/passwd", "expected an address such as"),
        ("http://host:99999/v1", "--base-url"),
        ("http://a b/v1", "expected an address such as"),
        ("", "expected an address such as"),
    ],
)
def test_an_address_that_cannot_be_one_is_refused(url, message):
    with pytest.raises(UsageError, match=message) as refusal:
        check_base_url(url)
    assert "secret" not in str(refusal.value)


def test_a_slash_at_the_end_of_an_address_does_no_harm():
    assert check_base_url("http://host:1/v1/") == "http://host:1/v1"


@pytest.mark.parametrize(("template", "refused"), [(TEMPLATE, True), ("{{ enable_thinking }}", False), (None, False)])
def test_thinking_is_asked_for_only_where_the_template_has_a_switch_for_it(make_spec, template, refused):
    spec = make_spec(model="some/model", external=True, thinking="off")
    found = facts({} if template is None else {"chat_template": template})
    if refused:
        with pytest.raises(UsageError, match="--thinking: the chat template of some/model has no switch"):
            check_server(found, spec)
    else:
        check_server(found, spec)


@pytest.mark.parametrize("tools", [True, False])
def test_what_a_template_shows_is_what_the_server_says_of_it(tools):
    found = facts(
        {"chat_template": TEMPLATE, "chat_template_caps": {"supports_tools": tools, "supports_system_role": 1}}
    )
    assert (found.template_tools, found.template_system) == (tools, None)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("s{tool} x {tool}", (True, True)),
        ("s{tool} x", (False, True)),
        ("x [{tool}]", (True, False)),
        ("x", (False, False)),
        (7, (None, None)),
    ],
)
def test_where_a_server_does_not_say_it_renders_a_conversation(prompt, expected):
    tool = "show_this_tool_8f3a"
    rendered = prompt.format(tool=tool) if isinstance(prompt, str) else prompt
    with ScriptedServer([], {"chat_template": TEMPLATE}) as server:
        server.pages["/apply-template"] = {"prompt": rendered}
        found = wait_until_ready(server.base_url, timeout_s=5)
    assert (found.template_tools, found.template_system) == expected
