"""The files of a report: complete, safe to embed, the same each time, and never in the way of records."""

from __future__ import annotations

import base64
import gzip
import json
import re
import subprocess
import sys

import pytest

from agenttrace.errors import DataError, StorageError, UsageError
from agenttrace.report import write_report
from agenttrace.report.write import page
from bench.synthetic import traces as synthetic
from tests.report.records import SCRIPTS, hostile_trace, released_row, traces


@pytest.fixture
def records(tmp_path):
    path = tmp_path / "records.jsonl"
    synthetic.write(path, [*traces(60), hostile_trace()])
    return path


def text_of(data):
    return gzip.decompress(base64.b64decode(data))


def unpacked(data):
    return json.loads(text_of(data))


def entries(data):
    """The (view, record line) pairs of a chunk."""
    lines = text_of(data).split(b"\n")
    return [(json.loads(view), line) for view, line in zip(lines[::2], lines[1::2], strict=False)]


def blocks(html):
    return dict(re.findall(r'<script type="text/plain" id="([^"]+)">([^<]*)</script>', html))


def test_the_page_holds_every_trace_where_its_index_says(records, tmp_path):
    done = write_report([records], tmp_path / "r.html")
    found = blocks((tmp_path / "r.html").read_text())
    index = unpacked(found["index"])
    rows = [dict(zip(index["fields"], row, strict=True)) for row in index["rows"]]
    assert done.traces == len(rows) == 61
    assert (done.sidecars, index["sidecars"]) == (0, [])
    for row in rows:
        view, line = entries(found[f"chunk-{row['chunk']}"])[row["place"]]
        assert view["id"] == row["id"] == json.loads(line)["trace_id"]


def test_nothing_of_a_record_stands_in_the_page_as_it_is(records, tmp_path):
    write_report([records], tmp_path / "r.html", title=SCRIPTS)
    html = (tmp_path / "r.html").read_text()
    assert "window.hacked" not in html.replace("&lt;script&gt;window.hacked", "").replace(
        "onerror=&#x27;window.hacked", ""
    ).replace("onload=window.hacked", "")
    assert "<img" not in html
    assert html.count("</script>") == html.count("<script")


def test_the_same_records_give_the_same_bytes(records, tmp_path):
    write_report([records], tmp_path / "a.html", page_bytes=1000)
    first = [path.read_bytes() for path in sorted((tmp_path / "a.data").iterdir())]
    page_first = (tmp_path / "a.html").read_bytes()
    write_report([records], tmp_path / "a.html", page_bytes=1000)
    assert page_first == (tmp_path / "a.html").read_bytes()
    assert first == [path.read_bytes() for path in sorted((tmp_path / "a.data").iterdir())]


def test_large_sets_go_to_data_files_and_leave_nothing_unfinished(records, tmp_path, monkeypatch):
    monkeypatch.setattr("agenttrace.report.pack.SIDECAR_BYTES", 2000)
    monkeypatch.setattr("agenttrace.report.pack.CHUNK_BYTES", 10_000)
    done = write_report([records], tmp_path / "r.html", page_bytes=5000)
    names = sorted(path.name for path in (tmp_path / "r.data").iterdir())
    assert names == [f"{number:03d}.js" for number in range(done.sidecars)]
    assert done.sidecars > 2
    html = (tmp_path / "r.html").read_text()
    assert list(blocks(html)) == ["index"]
    index = unpacked(blocks(html)["index"])
    chunks = []
    for number, sidecar in enumerate(index["sidecars"]):
        assert sidecar["first"] == len(chunks)
        text = (tmp_path / "r.data" / f"{number:03d}.js").read_text()
        head = re.match(r'agenttraceReport\((\d+), "([0-9a-f]{16})", \[', text)
        assert (int(head[1]), head[2]) == (number, sidecar["digest"])
        chunks += re.findall(r'^"([A-Za-z0-9+/=]+)",?$', text, re.MULTILINE)
    assert sum(len(entries(chunk)) for chunk in chunks) == 61
    small = tmp_path / "small.jsonl"
    synthetic.write(small, traces(1))
    (tmp_path / "r.data" / "007.js").write_text("someone else's")
    write_report([small], tmp_path / "r.html")
    assert [path.name for path in (tmp_path / "r.data").iterdir()] == ["007.js"]


def test_a_report_that_fails_leaves_the_earlier_one(records, tmp_path):
    output = tmp_path / "r.html"
    write_report([records], output, page_bytes=1000)
    before = {path: path.read_bytes() for path in [output, *(tmp_path / "r.data").iterdir()]}
    with records.open("a") as file:
        file.write('{"trace_id": "torn')
    with pytest.raises(DataError, match=r"records\.jsonl, line 62: not a trace record: .*cut off"):
        write_report([records], output, page_bytes=1000)
    assert {path: path.read_bytes() for path in [output, *(tmp_path / "r.data").iterdir()]} == before


def test_released_rows_are_read_beside_ours_compressed_or_not(records, tmp_path):
    released = tmp_path / "released.jsonl.gz"
    released.write_bytes(gzip.compress(json.dumps(released_row()).encode() + b"\n"))
    write_report([records, released], tmp_path / "r.html")
    index = unpacked(blocks((tmp_path / "r.html").read_text())["index"])
    last = dict(zip(index["fields"], index["rows"][-1], strict=True))
    assert (last["id"], last["dataset"], last["solved"], last["file"]) == ("075a0e63", "nl2bash", None, 1)


def test_a_report_that_fails_leaves_nothing_new(records, tmp_path):
    with records.open("a") as file:
        file.write("{}\n")
    with pytest.raises(DataError, match="line 62"):
        write_report([records], tmp_path / "new" / "r.html", page_bytes=1000)
    synthetic.write(tmp_path / "small.jsonl", traces(1))
    blocked = tmp_path / "b.html"
    blocked.mkdir()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UsageError, match=r"b\.html is a folder"):
        write_report([tmp_path / "small.jsonl"], blocked, page_bytes=10)
    assert sorted(tmp_path.iterdir()) == before
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot write"):
        write_report([tmp_path / "small.jsonl"], tmp_path / "file" / "r.html")


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "no record"), ("[]\n", "line 1"), ("{}\n", "line 1"), ('{"outcome": 1}\n', "line 1"), ("\n", "no record")],
)
def test_what_is_no_record_is_named_by_file_and_line(tmp_path, content, message):
    path = tmp_path / "odd.jsonl"
    path.write_text(content)
    with pytest.raises((DataError, UsageError), match=message):
        write_report([path], tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


def test_records_are_never_overwritten(records, tmp_path):
    before = records.read_bytes()
    for output in (records, tmp_path / "r"):
        with pytest.raises(UsageError, match="html"):
            write_report([records], output)
    page_named = records.rename(tmp_path / "records.html")
    with pytest.raises(UsageError, match="is a record file"):
        write_report([page_named], page_named)
    assert page_named.read_bytes() == before


def test_the_policy_lets_only_the_own_script_run():
    before, _, _ = page(title="t", sidecars=False)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', before)[1]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "strict-dynamic" not in policy
    assert re.search(r" on[a-z]+=| style=", "".join(page(title="t", sidecars=True))[:2000]) is None


def test_the_command_says_what_it_wrote(records, tmp_path):
    command = [sys.executable, "-m", "agenttrace", "report", str(records), "-o", str(tmp_path / "r.html")]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert re.search(r"r\.html: 61 traces, 0\.\d MB\n$", ended.stdout)
    ended = subprocess.run([*command[:4], str(tmp_path / "none.jsonl")], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "none.jsonl" in ended.stderr
