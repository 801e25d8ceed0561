"""Records as results of an evaluation, for the shared store of Every Eval Ever: a summary, and a line a record.

Source: evaleval/every_eval_ever, schema 0.3.0 (`eval.schema.json`, `instance_level_eval.schema.json`). One pair of
files for each run, task set and model, at `data/TASK_SET/DEVELOPER/MODEL/UUID.json` and `UUID_samples.jsonl`. A record
that no judge could grade has no score there and is left out; the summary says how many.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec import UNSET

from agenttrace.errors import DataError
from agenttrace.formats.conversation import epoch_ns, json_object, messages, outcome_of, without_none

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from agenttrace.formats import Sourced
    from agenttrace.formats.conversation import Message
    from agenttrace.records import RunSpec, Trace

SCHEMA = "0.3.0"
_METRIC = "solved"
_NS_PER_S = 1_000_000_000
_PORTABLE_CHARS = 100


class _Key(NamedTuple):
    run: str
    dataset: str
    model: str


class _Group:
    """The records of one pair of files, counted while they pass."""

    def __init__(self, key: _Key, first: Sourced) -> None:
        self.key, self.spec, self.metadata = key, first.spec, first.trace.metadata
        self.solved = self.graded = self.left_out = 0
        self.started = epoch_ns(first.trace.timestamp_utc)
        self.digest = hashlib.sha256()
        name = hashlib.sha256("\n".join(key).encode("utf-8", "replace")).digest()
        self.name = str(uuid.UUID(bytes=name[:16], version=4))
        stated, slash, model = key.model.rpartition("/")
        self.developer = _portable(stated if slash else "unspecified")
        self.folder = f"data/{_portable(key.dataset)}/{self.developer}/{_portable(model)}"

    @property
    def evaluation_id(self) -> str:
        """What joins the lines to their summary."""
        moment = "unknown" if self.started is None else str(self.started // _NS_PER_S)
        return f"{self.key.dataset}/{self.key.model}/{moment}"


def write(records: Iterable[Sourced], output: Path) -> dict[str, int]:
    """Write the files of all records into a folder and return how many lines each task set has.

    Raises:
        DataError: no record is graded.
    """
    groups: dict[_Key, _Group] = {}
    for record in records:
        known = record.trace.metadata
        dataset = str(known.get("dataset_name") or known.get("source") or "unknown")
        key = _Key(str(known.get("run_id")), dataset, record.trace.model)
        group = groups.setdefault(key, _Group(key, record))
        if record.trace.outcome.solved is None:
            group.left_out += 1
            continue
        line = _line(_sample(record.trace, record.spec, group))
        folder = output / group.folder
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{group.name}_samples.jsonl").open("ab") as file:
            file.write(line)
        group.digest.update(line)
        group.graded += 1
        group.solved += record.trace.outcome.solved
    counts: dict[str, int] = {}
    for key, group in groups.items():
        if not group.graded:
            continue
        (output / group.folder / f"{group.name}.json").write_bytes(_line(_summary(group)))
        counts[key.dataset] = counts.get(key.dataset, 0) + group.graded
    if not counts:
        raise DataError("a record cannot be written: none is graded, so there is no result to hand on")
    return counts


def _summary(group: _Group) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA,
        "evaluation_id": group.evaluation_id,
        "retrieved_timestamp": group.evaluation_id.rpartition("/")[2],
        "source_metadata": {
            "source_name": "agenttrace",
            "source_type": "evaluation_run",
            "source_organization_name": "unknown",
            "evaluator_relationship": "other",
        },
        "eval_library": {
            "name": "agenttrace",
            "version": str(group.metadata.get("collector_version") or "unknown"),
        },
        "model_info": _model(group),
        "evaluation_results": [_result(group)],
        "detailed_evaluation_results": {
            "format": "jsonl",
            "file_path": f"{group.folder}/{group.name}_samples.jsonl",
            "hash_algorithm": "sha256",
            "checksum": group.digest.hexdigest(),
            "total_rows": group.graded,
        },
    }


def _model(group: _Group) -> dict[str, Any]:
    engine, spec = group.metadata.get("serving_engine"), group.spec
    version = None if spec is None else spec.serving.engine_version
    pinned = spec is not None and spec.serving.engine != "external"
    ours = pinned and engine in {"llama.cpp", "vllm"}
    found = {
        "name": group.key.model,
        "id": group.key.model,
        "developer": group.developer,
        "inference_engine": {"name": str(engine), "version": str(version or "unknown")} if engine else None,
        "additional_details": {
            "deployment_type": "self_deployed" if ours else "unknown",
            "model_availability": "open_weights" if pinned else "unknown",
        },
    }
    return without_none(found)


def _result(group: _Group) -> dict[str, Any]:
    found = {
        "evaluation_result_id": f"{group.evaluation_id}#{_METRIC}",
        "evaluation_name": group.key.dataset,
        "source_data": {"dataset_name": group.key.dataset, "source_type": "other"},
        "metric_config": {
            "evaluation_description": "share of the graded records of which every judged aspect passed",
            "metric_id": _METRIC,
            "metric_name": _METRIC,
            "metric_kind": "accuracy",
            "metric_unit": "proportion",
            "lower_is_better": False,
            "score_type": "continuous",
            "min_score": 0.0,
            "max_score": 1.0,
        },
        "score_details": {
            "score": group.solved / group.graded,
            "details": _details(group),
            "uncertainty": {"num_samples": group.graded},
        },
        "generation_config": None if group.spec is None else {"generation_args": _arguments(group.spec)},
    }
    return without_none(found)


def _details(group: _Group) -> dict[str, str]:
    found = {
        "graded": str(group.graded),
        "not_graded": str(group.left_out),
        "run_id": group.key.run,
        "task_set_sha256": group.spec.dataset.sha256 if group.spec else None,
        "note": _demo(group.spec) if group.metadata.get("demo") is True else None,
    }
    return without_none(found)


def _demo(spec: RunSpec | None) -> str:
    knew = "trained on these very tasks" if spec is not None and spec.dataset.bundled else "under a million parameters"
    return f"records of a demonstration model, {knew}: a test of the machine, never a result"


def _arguments(spec: RunSpec) -> dict[str, Any]:
    sampler = spec.sampler
    return {
        "temperature": sampler.temperature,
        "top_p": sampler.top_p,
        "top_k": sampler.top_k,
        "max_tokens": sampler.max_tokens,
        "max_attempts": spec.dataset.rollouts,
    }


def _sample(trace: Trace, spec: RunSpec | None, group: _Group) -> dict[str, Any]:
    names = (trace.metadata.get("task_id"), trace.metadata.get("task_name"), trace.trace_id)
    said = [_message(number, one) for number, one in enumerate(messages(trace, spec))]
    return {
        "schema_version": SCHEMA,
        "evaluation_id": group.evaluation_id,
        "model_id": trace.model,
        "evaluation_name": group.key.dataset,
        "evaluation_result_id": f"{group.evaluation_id}#{_METRIC}",
        "sample_id": str(next(one for one in names if one is not None)),
        "sample_hash": hashlib.sha256(trace.prompt.encode("utf-8", "replace")).hexdigest(),
        "interaction_type": "agentic",
        "input": {"raw": trace.prompt, "reference": []},
        "output": None,
        "messages": said,
        "answer_attribution": _answer(trace, [one["turn_idx"] for one in said if one["role"] == "assistant"]),
        "evaluation": {
            "score": float(bool(trace.outcome.solved)),
            "is_correct": bool(trace.outcome.solved),
            "num_turns": len(trace.llm_steps),
            "tool_calls_count": sum(len(step.tool_calls or ()) for step in trace.llm_steps),
        },
        "token_usage": _usage(trace),
        **_facts(trace),
    }


def _facts(trace: Trace) -> dict[str, Any]:
    """Return times, error and what else is known of a record."""
    known, outcome = trace.metadata, outcome_of(trace)
    took = [one.duration_ms for one in trace.llm_steps]
    model_ms = None if None in took else sum(one for one in took if one is not None)
    facts = {name: known.get(name) for name in ("task_name", "task_kind", "rollout_index", "seed")}
    facts |= {name: outcome[name] for name in ("ended", "end_class", "detail", "verdicts", "scores")}
    return {
        "performance": without_none({"latency_ms": trace.total_duration_ms, "generation_time_ms": model_ms}) or None,
        "error": trace.outcome.detail if outcome["end_class"] == "infrastructure" else None,
        "metadata": {"trace_id": trace.trace_id, **without_none(facts)},
    }


def _answer(trace: Trace, replies: list[int]) -> list[dict[str, Any]]:
    """Return where the answer is from: the last reply."""
    if trace.outcome.final_answer is None or not replies:
        return []
    return [
        {
            "turn_idx": replies[-1],
            "source": f"messages[{replies[-1]}]",
            "extracted_value": trace.outcome.final_answer,
            "extraction_method": "custom",
            "is_terminal": True,
        }
    ]


def _message(number: int, found: Message) -> dict[str, Any]:
    calls = [
        {"id": call.call_id, "name": call.name, "arguments": _texts(json_object(call.arguments) or {})}
        for call in found.calls
    ]
    called = None if found.span is None else [found.span.call_id or found.span.span_id]
    return {
        "turn_idx": number,
        "role": found.role,
        "content": found.content,
        "reasoning_trace": None if found.step is None else found.step.reasoning_content,
        "tool_calls": calls or None,
        "tool_call_id": called,
    }


def _texts(arguments: dict[str, Any]) -> dict[str, str]:
    """Return arguments as the schema wants them: texts; what is none is JSON."""
    return {key: one if isinstance(one, str) else json.dumps(one) for key, one in arguments.items()}


def _usage(trace: Trace) -> dict[str, int] | None:
    """Return the sums of tokens where all of them are known, of the steps or of the whole."""
    read = [step.input_tokens for step in trace.llm_steps]
    written = [step.output_tokens for step in trace.llm_steps]
    sums = (_sum(read), _sum(written))
    if None in sums and trace.totals is not UNSET and trace.totals is not None:
        sums = (trace.totals.input_tokens, trace.totals.output_tokens)
    if sums[0] is None or sums[1] is None:
        return None
    cached = _sum([None if step.timings is None else step.timings.cached_n for step in trace.llm_steps])
    usage = {"input_tokens": sums[0], "output_tokens": sums[1], "total_tokens": sums[0] + sums[1]}
    return usage if cached is None else {**usage, "input_tokens_cache_read": cached}


def _sum(counts: list[int | None]) -> int | None:
    known = [one for one in counts if one is not None]
    return sum(known) if known and len(known) == len(counts) else None


def _portable(name: str) -> str:
    """Return a name as a component of a path on any system."""
    found = "".join(char if char.isascii() and (char.isalnum() or char in "-_.") else "_" for char in name)
    return found[:_PORTABLE_CHARS].strip(".") or "unknown"


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, allow_nan=False).encode("ascii") + b"\n"
