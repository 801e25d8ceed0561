"""What a user types as a model is understood, or refused with what is possible."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agenttrace.errors import UsageError
from agenttrace.models import pins
from agenttrace.models.reference import find, is_complete, is_settled, provisional
from agenttrace.serving import profiles

COMMIT = "a" * 40
ROW = """
[model."me/mine"]
source = "file"
path = "weights/mine.gguf"
"""


@pytest.fixture
def table(tmp_path, monkeypatch):
    """Return a function that writes the user's own table."""

    def write(text):
        (tmp_path / "models.toml").write_text(text)
        monkeypatch.setenv("AGENTTRACE_MODELS", str(tmp_path / "models.toml"))

    return write


@pytest.mark.parametrize("name", pins.model_names())
def test_every_pinned_model_names_its_bytes_whole(name):
    ref = find(name)
    assert is_complete(ref)
    assert ref.digest_from == "pinned"
    assert ref.licence == "apache-2.0" or ref.terms
    profiles.serving_spec(provisional(ref))


def test_a_file_of_the_hub_is_named_by_repository_revision_and_path():
    ref = find(f"owner/name@{COMMIT}:sub/x-Q4_0.gguf", size=5, sha256="B" * 64)
    assert (ref.repo, ref.revision, ref.file) == ("owner/name", COMMIT, "sub/x-Q4_0.gguf")
    assert (ref.artifact, ref.bytes, ref.sha256) == ("x-Q4_0.gguf", 5, "b" * 64)
    assert ref.digest_from == "given"
    assert is_settled(ref)
    assert not is_settled(find("owner/name@main:x.gguf", size=5, sha256="b" * 64))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            "nobody/none",
            "unknown model 'nobody/none'; pinned models: agenttrace-demo, agenttrace-demo-swe, Qwen/Qwen3-0.6B, Qwen",
        ),
        ("Qwen/Qwen3-4B@main", "unknown model"),
        ("a/b@main:model.safetensors", "reads GGUF files, and model.safetensors is none"),
        ("a/b@main:", "reads GGUF files, and nothing is none"),
        ("a/b@main:x-00001-of-00003.gguf", "one part of several"),
        ("a/b@main:../../x.gguf", "file is"),
        ("a/b@main:/etc/x.gguf", "file is"),
        ("a/b@../x:x.gguf", "revision is"),
        ("../b@main:x.gguf", "repo is"),
        ("a/b/c@main:x.gguf", "repo is"),
        ("a/b@main:x y.gguf", "file is"),
        ("-a/b@main:x.gguf", "name is|repo is"),
        ("a/b@main:x,y.gguf", "name is|file is"),
        ("missing.gguf", "missing.gguf does not exist"),
    ],
)
def test_what_cannot_be_is_refused(model, message):
    with pytest.raises(UsageError, match=message):
        find(model)


def test_one_part_of_several_on_disk_is_refused_as_well(tmp_path):
    (tmp_path / "x-00001-of-00003.gguf").touch()
    with pytest.raises(UsageError, match="one part of several; join them"):
        find(str(tmp_path / "x-00001-of-00003.gguf"))


@pytest.mark.parametrize(
    ("size", "sha256", "message"), [(0, None, "bytes is 0"), (None, "abc", "sha256 is 'abc', expected 64")]
)
def test_a_size_or_digest_that_cannot_be_is_refused(size, sha256, message):
    with pytest.raises(UsageError, match=message):
        find(f"a/b@{COMMIT}:x.gguf", size=size, sha256=sha256)


def test_a_pin_cannot_be_overruled():
    with pytest.raises(UsageError, match="is pinned: --size and --sha256 are for models"):
        find("Qwen/Qwen3-0.6B", sha256="0" * 64)


def test_a_folder_of_safetensors_is_refused_with_the_commands_that_convert_it(tmp_path):
    folder = tmp_path / "mini-coder"
    folder.mkdir()
    with pytest.raises(UsageError) as refusal:
        find(str(folder))
    assert f"python convert_hf_to_gguf.py {folder} --outfile mini-coder-F16.gguf --outtype f16" in str(refusal.value)
    assert "llama-quantize mini-coder-F16.gguf mini-coder-Q8_0.gguf Q8_0" in str(refusal.value)


def test_a_table_of_ones_own_adds_names(table, tmp_path):
    table(ROW)
    ref = find("me/mine")
    assert (ref.path, ref.artifact) == (str(tmp_path / "weights/mine.gguf"), "mine.gguf")
    assert ref.digest_from == "computed"
    with pytest.raises(UsageError, match="me/mine"):
        find("me/other")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[model", "is not TOML"),
        ('[model."Qwen/Qwen3-0.6B"]\nsource = "file"\npath = "x.gguf"', "is pinned by the kit itself"),
        ('[model.a]\nsource = "hub"\nartifact = "x.gguf"', r'\[model."a"\]: .*repo and revision are needed'),
        ('[model.a]\nsource = "bundled"\nartifact = "x.gguf"', "expected 'hub', 'pypi' or 'file'"),
        ('[model.a]\nsource = "file"', "artifact|path is needed"),
        ('[model.a]\nsource = "file"\npath = "x.gguf"\nsha25 = "0"', "sha25"),
        ('[model.a]\nsource = "file"\npath = "x.gguf"\nbytes = "many"', "bytes"),
        ("model = 3", "unknown model"),
        ("[model]\na = 3", r'\[model."a"\]'),
    ],
)
def test_a_wrong_table_is_refused_with_file_and_entry(table, text, message):
    table(text)
    with pytest.raises(UsageError, match=message):
        find("a")


def test_a_table_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setenv("AGENTTRACE_MODELS", "/nonexistent/models.toml")
    with pytest.raises(UsageError, match=r"AGENTTRACE_MODELS names /nonexistent/models\.toml"):
        find("me/mine")


def test_a_table_in_the_home_folder_is_found_and_a_pipe_is_refused(table, tmp_path, monkeypatch):
    table(ROW)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AGENTTRACE_MODELS", f"~/{Path(os.environ['AGENTTRACE_MODELS']).name}")
    assert find("me/mine").artifact == "mine.gguf"
    table(ROW.replace("weights/mine.gguf", "~/weights/mine.gguf"))
    assert find("me/mine").path == str(tmp_path / "weights/mine.gguf")
    os.mkfifo(tmp_path / "pipe.toml")
    monkeypatch.setenv("AGENTTRACE_MODELS", "~/pipe.toml")
    with pytest.raises(UsageError, match="it is a pipe"):
        find("me/mine")
