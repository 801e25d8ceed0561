"""What must not be in a record is found wherever it stands; what belongs there is not flagged."""

from __future__ import annotations

import json
import os
import time
import urllib.parse
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttrace.tasks import sources, task_set
from agenttrace.validate.leak_rules import RULES, TOKENS
from agenttrace.validate.leaks import _each, leaks, local_words, masked, texts, word
from agenttrace.verbs.validate import _DISK_ID, machine_facts
from tests.validate.leak_samples import SAMPLES

DATA = Path(__file__).parents[1] / "data" / "records" / "demo.jsonl"


@pytest.mark.parametrize(("kind", "text"), SAMPLES)
def test_each_pattern_is_found_in_any_surrounding(kind, text):
    for value in (
        text,
        f"\x1b[31m{text}\x1b[0m",
        f"{text[: len(text) // 2]}\x1b[1;31m{text[len(text) // 2 :]}",
        f"see {text}\n",
        {"a": [{"b": f"x='{text}'"}]},
        {f"key {text}": 1},
        json.dumps({"code": f"\n{text}"}),
        json.dumps({"code": json.dumps(json.dumps(f"\n{text}\n"))}),
        f"https://example.org/?key%3D{urllib.parse.quote(text, safe='')}",
        f"b'\\xff{text}'",
    ):
        assert kind in {problem.message.partition(":")[0] for problem in leaks(value)}, value


@pytest.mark.parametrize(("kind", "text"), SAMPLES)
def test_a_finding_never_shows_the_whole(kind, text):
    for problem in leaks({"a": text}):
        assert text not in problem.message.partition(": ")[2]
        assert problem.where == "a"


@pytest.mark.parametrize(
    "text",
    [
        "/testdata/system/folder1/a.txt", "/home/user/x", "/Users/username/Documents", "/home", "/home/",
        "/root/.bashrc", "/usr/lib/python3", "/models/ebbc2f0cd9df0608-agenttrace-demo.gguf", "/opt/agenttrace/runner",
        "3f2a9c1b4d5e", "agent@3f2a9c1b4d5e:/testdata$", "threading.local", "java.lang.internal", "sk-learn",
        "the token: a word", "password = input('password')", "git@github.com:owner/repo", "http://server:8080/v1",
        "sha256:57f1fd00f001", "69294d1d-ff0b-5b6e-8287-ab4e037fbaed", "max_tokens: 1024", "user@example.org",
        "token = 'aaaaaaaaaaaaaaaaaaaaaaaa1'", "/mnt/data/report.csv", "/mnt/c/Windows", "curl -u user:password http://x",
        'curl -u "$USER:$PASS" http://x', "ps -u root:wheel-members", "fw_set_environment_variables_of_all", "sk_buff",
        "key-value-stores-and-other-databases", "re_compile_pattern", "SG.", "echo $5$6", "http://:8080/",
        '"auth": "basic"',         '"auth": "aGVsbG8gd29ybGQh"',
        "machine a login b password $PASSWORD", "src/home/index.html", "/data/homepage/x",
        "/scratch",
        "AKIAIOSFODNN7EXAMPLE", "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "hf_" + "x" * 34,
        "OPENAI_API_KEY=sk-your-api-key-goes-here", "ghp_" + "X" * 36, ".sk-loading-indicator-spinner-wrapper",
        "https://user:password@example.org", "postgres://USER:PASS@db", "/home/runner/work", "/home/ubuntu/x",
        "password = get_password_from_environment_v2()", "secret_key = settings.SECRET_KEY_FALLBACKS_1", "100%25%2F",
        "pa-" + "word-" * 9, "AGE-SECRET-KEY-1", "/var/lib/docker", "dapi", "AccountKey=",
    ],
)  # fmt: skip
def test_what_belongs_there_is_not_flagged(text):
    assert list(leaks({"a": text})) == []


def test_a_secret_as_the_value_of_a_field_with_such_a_name_is_found():
    assert [
        problem.where for problem in leaks({"x": {"api_key": "q7Zt1LkW0pXv9RbNs4Yd", "id": "q7Zt1LkW0pXv9RbNs4Yd"}})
    ] == ["x.api_key"]


def test_collected_records_and_all_tasks_are_clean():
    for line in DATA.read_text(encoding="utf-8").splitlines():
        assert list(leaks(json.loads(line))) == []
    for name in ("demo", "nl2bash", "mbpp"):
        if name != "demo" and not os.environ.get(sources.MIRROR):
            continue
        for task in task_set(name).tasks():
            assert list(leaks([task.prompt, task.expect])) == []


def test_words_of_this_machine_are_found_unless_common_or_allowed():
    words, common = local_words(
        {"host name": ["zebra17"], "user name": ["root", "alice"], "host path": ["/srv/checkout"]}
    )
    assert common == ["user name 'root'"]
    text = "on Zebra17, alice ran /srv/checkout/x as root; alicent and zebra170 did not"
    assert [problem.message for problem in leaks(text, words)] == [
        "host name: Ze... (7 characters)", "user name: a... (5 characters)", "host path: /srv... (13 characters)",
    ]  # fmt: skip
    assert [problem.message for problem in leaks(text, words, allowed=["Zebra17", "alice"])] == [
        "host path: /srv... (13 characters)"
    ]
    assert list(leaks("a+b", [word("private text", "a+b")]))


@given(st.recursive(st.text() | st.integers() | st.none(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)))
def test_every_text_is_looked_at(value):
    def all_texts(item):
        if isinstance(item, str):
            return [item]
        if isinstance(item, dict):
            return [text for pair in item.items() for part in pair for text in all_texts(part)]
        return [text for part in item for text in all_texts(part)] if isinstance(item, list) else []

    assert sorted(text for _, text in texts("", value)) == sorted(all_texts(value))
    list(leaks(value))


_PIECES = st.sampled_from(
    [text for _, text in SAMPLES] + ["\\n", "\\u0068f_", "\x1b[1m", "password", " ", "x", "\n", "/home/"]
)
_TEXTS = st.lists(_PIECES, max_size=4).map("".join)


@given(st.recursive(_TEXTS, lambda x: st.lists(x, max_size=3) | st.dictionaries(_TEXTS, x, max_size=3), max_leaves=6))
def test_the_quick_look_at_all_texts_misses_nothing(value):
    assert list(leaks(value)) == list(_each(list(texts("", value)), (), ()))


@given(st.text(min_size=1, max_size=300))
def test_masking_never_shows_more_than_a_third(text):
    assert len(masked(text).partition("... (")[0]) <= max(0, len(text) // 3) or "... (" in text


def test_the_command_names_file_line_and_field_and_ends_with_1(agenttrace, rows, record_file):
    secret = "hf_" + "aB3dE" * 7
    rows[1]["spans"][0]["tool_output"] = f"\x1b[2J{secret}"
    path = record_file(rows)
    ended = agenttrace("validate", path)
    assert ended.returncode == 1
    assert f"{path}:2: leak: spans[0].tool_output: Hugging Face token: hf_aB3... (38 characters)" in ended.stdout
    assert secret not in ended.stdout + ended.stderr
    assert "\x1b" not in ended.stdout
    assert "4 lines, 1 finding\n" in ended.stdout


def test_the_command_ends_with_0_when_nothing_is_wrong_and_takes_several_files(agenttrace, rows, record_file, tmp_path):
    path = record_file(rows)
    ended = agenttrace("validate", path)
    assert (ended.returncode, ended.stderr) == (0, "")
    ended = agenttrace("validate", tmp_path / "none", path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "No such file" in ended.stderr
    ended = agenttrace("validate", path, "--private", "agenttrace-demo", "--max", "1")
    assert ended.returncode == 1
    assert "more findings are not printed" in ended.stdout


def test_the_users_own_names_are_looked_for(agenttrace, rows, record_file, tmp_path):
    rows[0]["spans"][0]["tool_output"] = f"{tmp_path}/x"
    path = record_file(rows)
    ended = agenttrace("validate", path, cwd=tmp_path)
    assert "spans[0].tool_output: host path:" in ended.stdout


HEADS = sorted(
    {prefix for tokens in TOKENS.values() for prefix, _ in tokens} | {h for r in RULES.values() for h in r.hints}
)


@pytest.mark.slow
@pytest.mark.parametrize("joint", ["", "-", "_", "/", " ", ".", ":", "a1B2-"])
def test_no_text_makes_the_check_slow(joint):
    """Beginnings of every rule in a row, as long as an observation may be; the bound is far from what is needed."""
    for head in HEADS:
        for text in (joint.join([head] * 2000), (head + joint) * 20 + "a1" * 4000 + "_"):
            began = time.process_time()
            list(leaks(text))
            assert time.process_time() - began < 2, (head, joint)


def test_every_token_and_every_rule_has_a_sample():
    kinds = {kind for kind, _ in SAMPLES}
    assert set(RULES) - kinds <= {"Terraform token", "1Password key"}
    assert len(kinds & {token.kind for tokens in TOKENS.values() for _, token in tokens}) > 40


def test_the_ids_that_a_tool_call_can_read_of_this_machine_are_looked_for(agenttrace, rows, record_file):
    facts = machine_facts()
    boot = Path("/proc/sys/kernel/random/boot_id")
    if not boot.exists():
        pytest.skip("this system has no boot id to read")
    assert facts["boot id"] == [boot.read_text().strip()]
    rows[0]["spans"][0]["tool_output"] = f"boot {boot.read_text()}"
    ended = agenttrace("validate", record_file(rows))
    assert "spans[0].tool_output: boot id: " in ended.stdout


@pytest.mark.parametrize(
    ("line", "ids"),
    [
        ("root=UUID=0a1b2c3d-0000-4000-8000-00000000abcd ro", ["0a1b2c3d-0000-4000-8000-00000000abcd"]),
        ("root=PARTUUID=0a1b2c3d-02 rd.luks.uuid=luks-0a1b2c3d-1111", ["0a1b2c3d-02", "0a1b2c3d-1111"]),
        ("console=ttyS0 root=/dev/vda", []),
    ],
)
def test_the_id_of_a_disk_is_read_off_the_kernels_command_line(line, ids):
    assert _DISK_ID.findall(line) == ids
