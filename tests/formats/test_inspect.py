"""Logs of Inspect, read: what stands in them, and archives that anyone may have made."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import sys
import zipfile
import zlib

import pytest
import zstandard

from agenttrace.errors import UsageError
from agenttrace.formats.reading import kind, traces
from tests.formats.samples import SAMPLES, VERBS, ask

LOG = SAMPLES / "inspect-log.json"
ROOT = SAMPLES.parents[2]


def archived(log, target, *, zstd=True):
    """Write a log of Inspect as its archive: what is said of all, and a member for each sample."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        members = {"_journal/start.json": {key: log[key] for key in ("version", "eval", "plan")}}
        members |= {f"samples/{one['id']}_epoch_{one['epoch']}.json": one for one in log["samples"]}
        members |= {"summaries.json": [], "reductions.json": [], "header.json": log | {"samples": None}}
        for name, value in members.items():
            put(archive, name, json.dumps(value).encode(), zstd=zstd)


def put(archive, name, data, *, zstd=True, **changed):
    """Write a member; what zipfile cannot pack is written as it is, and said to be packed."""
    if not zstd:
        archive.writestr(name, data)
        return
    archive.writestr(zipfile.ZipInfo(name), zstandard.compress(data))
    member = archive.infolist()[-1]
    member.compress_type, member.file_size, member.CRC = 93, len(data), zlib.crc32(data)
    for field, value in changed.items():
        setattr(member, field, value)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("zstd", [True, False])
def test_every_verb_opens_an_archive(zstd, verb, tmp_path, capsys):
    archived(json.loads(LOG.read_bytes()), source := tmp_path / "a.eval", zstd=zstd)
    assert ask(verb, source, tmp_path) == 0, capsys.readouterr().err
    assert kind(source) == ("inspect", "sample")
    assert [one for _, one in traces(source)] == [one for _, one in traces(LOG)]


class TestInspect:
    def test_a_sample_is_a_record_with_its_calls_times_and_tokens(self):
        (_, first), *_ = traces(LOG)
        assert (first.prompt, first.model, first.outcome.final_answer) == (
            "What is 1 + 2?", "mockllm/model", "The sum is 3."
        )  # fmt: skip
        step, last = first.llm_steps
        assert (step.reasoning_content, step.model_output, step.finish_reason) == (
            "two at once",
            "I add.",
            "tool_calls",
        )
        assert (step.input_tokens, step.output_tokens, step.timings.cached_n) == (160, 20, 60)
        assert (last.input_tokens, last.timings) == (150, None)
        assert [(span.tool_name, span.tool_output, span.status) for span in first.spans] == [
            ("add", "3", "ok"), ("slow", "Command timed out before completing.", "timeout")
        ]  # fmt: skip
        assert all(span.duration_ms > 0 and span.exit_code is None for span in first.spans)
        assert (first.totals.input_tokens, first.totals.output_tokens, first.totals.cached_tokens) == (310, 26, 60)
        kept = first.environment["imported"]
        assert (kept["system_prompt"], kept["model_usage"]["mockllm/model"]["reasoning_tokens"]) == ("You add.", 7)

    def test_epochs_are_rollouts_of_one_task_and_ends_are_those_of_the_log(self):
        found = [one for _, one in traces(LOG)]
        assert [(one.metadata["task_id"], one.metadata["rollout_index"]) for one in found] == [
            ("sum", 0), ("other", 1), ("sum", 1)
        ]  # fmt: skip
        assert len({one.trace_id for one in found}) == 3
        assert [(one.outcome.ended, one.outcome.detail) for one in found] == [
            ("final_answer", None), ("model_error", "RuntimeError('server is gone')"), ("max_steps", "limit: message 6")
        ]  # fmt: skip
        assert [(one.outcome.solved, one.outcome.scores) for one in found] == [
            (True, {}), (None, {}), (True, {"match": 0.5})
        ]  # fmt: skip
        assert found[2].llm_steps[0].model_output == "I add."  # a text that stands among the attachments

    def test_epochs_whose_words_are_the_same_have_ids_of_their_own(self, tmp_path):
        log = json.loads(LOG.read_bytes())
        one = {key: value for key, value in log["samples"][0].items() if key not in {"uuid", "events"}}
        log["samples"] = [one | {"epoch": number} for number in range(1, 9)]
        (tmp_path / "a.json").write_text(json.dumps(log, indent=1))
        assert len({trace.trace_id for _, trace in traces(tmp_path / "a.json")}) == 8

    def test_a_figure_that_is_none_is_not_known(self, tmp_path):
        log = json.loads(LOG.read_bytes())
        log["samples"][0]["scores"]["match"]["value"] = float("nan")
        (tmp_path / "a.json").write_text(json.dumps(log, indent=1))
        archived(log, tmp_path / "a.eval")
        for name in ("a.json", "a.eval"):
            assert next(traces(tmp_path / name))[1].outcome.scores == {}

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"version": 1}, "a log of Inspect of version 1; 2 is read"),
            ({"samples": {}}, "whose samples are no list"),
            ({"samples": [1]}, "it has no list of messages"),
            ({"samples": [{"messages": [1]}]}, "a message of it is no object"),
        ],
    )
    def test_what_is_none_is_one_message(self, change, said, tmp_path, capsys):
        log = json.loads(LOG.read_bytes()) | change
        (tmp_path / "a.json").write_text(json.dumps(log, indent=1))
        assert ask("show", tmp_path / "a.json", tmp_path) in {1, 2}
        assert said in capsys.readouterr().err

    def test_one_line_is_as_good_as_many(self, tmp_path):
        (tmp_path / "a.json").write_text(json.dumps(json.loads(LOG.read_bytes())))
        assert [one for _, one in traces(tmp_path / "a.json")] == [one for _, one in traces(LOG)]


class TestArchives:
    @pytest.fixture
    def archive(self, tmp_path):
        archived(json.loads(LOG.read_bytes()), tmp_path / "a.eval")
        return tmp_path / "a.eval"

    def told(self, path):
        seen = []
        found = [one for _, one in traces(path, seen.append)]
        return found, [str(one) for one in seen]

    @pytest.mark.parametrize("zstd", [True, False])
    def test_a_sample_that_cannot_be_read_is_named_and_left_out(self, zstd, archive):
        with zipfile.ZipFile(archive, "a", zipfile.ZIP_DEFLATED) as file:
            put(file, "samples/half_epoch_1.json", b'{"id": ', zstd=zstd)
            put(file, "samples/whole_epoch_1.json", b'{"id": 1, "epoch": 1, "input": "x"}', zstd=zstd)
        found, said = self.told(archive)
        assert len(found) == 4
        (line,) = said
        assert line.startswith(f"{archive}, sample 4: 'samples/half_epoch_1.json': not JSON")

    @pytest.mark.parametrize(
        ("changed", "said"),
        [
            ({"CRC": 1}, "its checksum is another"),
            ({"file_size": 3}, "it has more bytes than the list of members says"),
            ({"file_size": 300}, "it has fewer bytes than the list of members says"),
            ({"file_size": 300 << 20}, "has more than 256 MiB"),
            ({"flag_bits": 1}, "encrypted"),
            ({"compress_type": 12}, "cannot be read"),
            ({"compress_type": 98}, "is packed in a way that is not read"),
            ({"header_offset": 9}, "it does not begin where the list of members says"),
            ({"compress_size": 20}, "the Zstandard stream is cut off"),
        ],
    )
    def test_a_member_that_is_not_what_the_list_says_is_named(self, changed, said, archive):
        with zipfile.ZipFile(archive, "a") as file:
            put(file, "samples/odd_epoch_1.json", b'{"id": 1, "epoch": 1, "input": "x"}', **changed)
        found, (line,) = self.told(archive)
        assert len(found) == 3
        assert line.startswith(f"{archive}, sample 4: 'samples/odd_epoch_1.json': ")
        assert said in line

    def test_what_unpacks_to_more_than_anybody_would_pack_is_not_read(self, archive, capsys, tmp_path):
        with zipfile.ZipFile(archive, "a") as file:
            for number in range(9):
                put(file, f"samples/{number}_epoch_1.json", b"{}", file_size=200 << 20)
        assert ask("show", archive, tmp_path) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "a zip file that says of itself to hold" in line

    def test_a_bomb_is_refused_in_little_memory(self, archive):
        with zipfile.ZipFile(archive, "a") as file:
            put(file, "samples/bomb_epoch_1.json", b"[" * (300 << 20), file_size=200 << 20)
        code = (
            "import sys; from pathlib import Path; from agenttrace.formats.reading import traces\n"
            "from tests.peak import peak_mib\n"
            "list(traces(Path(sys.argv[1]), print)); print(peak_mib())"
        )
        ended = subprocess.run([sys.executable, "-c", code, archive], capture_output=True, text=True, cwd=ROOT)
        assert "'samples/bomb_epoch_1.json': it has more bytes than" in ended.stdout
        assert int(ended.stdout.split()[-1]) < 500

    @pytest.mark.parametrize(
        "name", ["../../x.json", "/samples/x.json", "samples/../x_epoch_1.json", "samples/a/b.json"]
    )
    def test_a_member_elsewhere_is_none_and_nothing_is_unpacked(self, name, archive, tmp_path):
        with zipfile.ZipFile(archive, "a") as file:
            put(file, name, b'{"id": 1, "epoch": 1, "input": "x"}', zstd=False)
        found, said = self.told(archive)
        assert (len(found), said) == (3, [])
        assert [one.name for one in tmp_path.iterdir()] == ["a.eval"]

    def test_samples_in_chunks_are_told_of(self, archive):
        with zipfile.ZipFile(archive, "a") as file:
            put(file, "samples/big_epoch_1/sample.json", b"{}", zstd=False)
        found, (line,) = self.told(archive)
        assert (len(found), "sample 'big_epoch_1': it is stored in chunks" in line) == (3, True)

    def test_another_zip_file_is_none(self, tmp_path, capsys):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
            file.writestr("notes.txt", "x")
        assert ask("show", tmp_path / "a.zip", tmp_path) == 2
        assert "it is a zip file, and no log of Inspect" in capsys.readouterr().err

    def test_wherever_a_byte_is_another_it_is_a_record_or_a_message(self, archive):
        whole, chance = archive.read_bytes(), random.Random("archive")
        for _ in range(150):
            at = chance.randrange(len(whole))
            odd = bytes([chance.randrange(256)])
            archive.write_bytes(whole[:at] if chance.random() < 0.2 else whole[:at] + odd + whole[at + 1 :])
            with contextlib.suppress(UsageError):
                self.told(archive)

    def test_more_members_than_anybody_packs_are_refused_before_their_list_is_read(self, archive):
        data = bytearray(archive.read_bytes())
        at = data.rfind(b"PK\x05\x06")
        data[at + 12 : at + 16] = (1 << 31).to_bytes(4, "little")
        archive.write_bytes(data)
        with pytest.raises(UsageError, match="whose list of members is damaged"):
            list(traces(archive))
