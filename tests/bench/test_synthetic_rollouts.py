"""Synthetic traces of the bash-block agent: records by every rule, and the same each time."""

from agenttrace.store.read import read_run_spec, read_traces, run_spec_path
from agenttrace.validate import Validation
from bench.synthetic.rollouts import Corpus, fingerprint, rollouts, spec, write

CORPUS = Corpus(tasks=5, repos=3, rollouts=3, turns=8, seed=2)


def test_they_keep_every_rule_of_records(tmp_path):
    path = tmp_path / "run.jsonl"
    write(path, spec(CORPUS), rollouts(CORPUS))
    validation = Validation(path)
    assert list(validation) == []
    assert validation.records == 15
    assert list(read_traces(path)) == list(rollouts(CORPUS))
    assert read_run_spec(run_spec_path(path)) == spec(CORPUS)


def test_they_are_the_same_each_time_and_others_of_another_seed():
    assert fingerprint(rollouts(CORPUS)) == fingerprint(rollouts(CORPUS))
    assert fingerprint(rollouts(CORPUS)) != fingerprint(rollouts(Corpus(tasks=5, repos=3, rollouts=3, turns=8)))


def test_they_end_by_every_stop_rule_and_only_what_is_submitted_has_a_patch():
    made = list(rollouts(CORPUS))
    assert {trace.outcome.ended for trace in made} == {"final_answer", "max_steps", "token_budget", "format_error"}
    assert all(bool(trace.outcome.patch) == (trace.outcome.ended == "final_answer") for trace in made)
    assert {trace.outcome.solved for trace in made} == {True, False}
    assert {span.exit_code for trace in made for span in trace.spans} == {0, 127}
