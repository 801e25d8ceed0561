"""Exports opened by the readers that they are for; runs in the session `formats-check`, which installs them."""

from __future__ import annotations

import http.server
import json

import pytest

# They stand in the session's own environment alone; elsewhere this file says so and tests nothing.
pytest.importorskip("harbor", reason="scripts/nox -s formats-check installs Harbor, Inspect and Phoenix's client")

from agenttrace.formats import atif
from agenttrace.formats.convert import convert, read
from tests.formats.hostile import OLD, spec, traces
from tests.listening import listening


def test_harbors_validator_takes_every_trajectory(records, tmp_path):
    from harbor.models.trajectories import Trajectory
    from harbor.utils.trajectory_validator import TrajectoryValidator

    convert([records, OLD], "atif", tmp_path / "o")
    assert len(list((tmp_path / "o").iterdir())) == 15
    for path in (tmp_path / "o").iterdir():
        validator = TrajectoryValidator()
        assert validator.validate(path), validator.errors
    for trace in [*traces(), *(record.trace for record in read(OLD))]:
        written = Trajectory.model_validate(atif.from_trace(trace, spec())).to_json_dict(exclude_none=False)
        assert atif.to_trace(json.loads(json.dumps(written))) == trace  # and back out of Harbor's own hands


def test_harbors_validator_can_fail(tmp_path):
    from harbor.utils.trajectory_validator import TrajectoryValidator

    value = atif.from_trace(traces()[0], spec())
    value["steps"][2]["observation"]["results"][0]["source_call_id"] = "nobody"
    assert not TrajectoryValidator().validate(json.loads(json.dumps(value)))


def test_phoenix_makes_one_trace_of_each_trajectory_and_uploads_it(tmp_path):
    from phoenix.client import Client
    from phoenix.client.helpers.atif import upload_atif_trajectories_as_spans

    received = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            spans = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["data"]
            received.extend(spans)
            body = json.dumps({"total_received": len(spans), "total_queued": len(spans)}).encode()
            self.send_response(202)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with listening(Handler) as url:
        client = Client(base_url=url)
        trajectories = [json.loads(json.dumps(atif.from_trace(trace, spec()))) for trace in traces()]
        upload_atif_trajectories_as_spans(client, trajectories, project_name="p")
    assert len({span["context"]["trace_id"] for span in received}) == len(traces())
    tools = [span for span in received if span["span_kind"] == "TOOL"]
    assert len(tools) == sum(len(trace.spans) for trace in traces())
    assert any(
        traces()[0].spans[0].tool_output in json.dumps(span["attributes"]).replace("\\n", "\n") for span in tools
    )


def test_inspect_reads_the_log_its_summaries_and_every_sample(records, tmp_path):
    from inspect_ai.log import read_eval_log, read_eval_log_sample, read_eval_log_sample_summaries

    convert([records, OLD], "inspect", tmp_path / "o.eval")
    log = read_eval_log(str(tmp_path / "o.eval"))
    assert (log.status, len(log.samples)) == ("success", 15)
    verdicts = [sample.scores["agenttrace"].value if sample.scores else None for sample in log.samples]
    old = [{True: "C", False: "I", None: None}[record.trace.outcome.solved] for record in read(OLD)]
    assert verdicts == ["C", "C", "C", "I", None, *old]
    assert len(read_eval_log_sample_summaries(str(tmp_path / "o.eval"))) == 15
    sample = read_eval_log_sample(str(tmp_path / "o.eval"), id=1, epoch=1)
    span = traces()[0].spans[0]
    tools = [event for event in sample.events if event.event == "tool"]
    assert tools[0].metadata["agenttrace"]["telemetry"]["max_rss_bytes"] == span.telemetry.max_rss_bytes
    assert [message.role for message in sample.messages][:4] == ["system", "user", "assistant", "tool"]
    assert sample.messages[3].text == span.tool_output
