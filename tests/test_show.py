"""One trace as a transcript: nothing of it is left out, whatever ids it has."""

from __future__ import annotations

from agenttrace.show import transcript
from bench.synthetic import traces as synthetic
from tests.analysis.report.records import changed


def printed(trace):
    return "\n".join(line for _, line in transcript(trace))


def test_every_call_is_shown_although_ids_come_twice_or_belong_to_no_step():
    trace = next(trace for trace in synthetic.traces(synthetic.Campaign(tasks=20)) if len(trace.spans) > 1)
    spans = [changed(span, tool_output=f"output {number}") for number, span in enumerate(trace.spans)]
    twice = changed(spans[0], tool_output="again")
    nowhere = changed(spans[0], call_id="call_99_1", tool_output="proposed by nobody")
    unnamed = changed(spans[0], call_id=None, tool_output="without an id")
    text = printed(changed(trace, spans=(*spans, twice, nowhere, unnamed)))
    for shown in (*(span.tool_output for span in spans), "again", "proposed by nobody", "without an id"):
        assert text.count(f"| {shown}\n") == 1
    assert text.count("proposed nowhere") == 3
