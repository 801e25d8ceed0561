"""Print what record files hold, as `agenttrace stats` counts it; only the standard library (docs/spec-records.md)."""

import gzip
import json
import sys
from collections import Counter

STOPS = {"submitted": "final_answer", "turns": "max_steps", "tokens": "token_budget", "format": "format_error"}
INFRASTRUCTURE = {"model_error", "sandbox_error", "internal_error", "error"}


def lines(path):
    with open(path, "rb") as file:
        magic = file.read(4)
    if magic != b"\x28\xb5\x2f\xfd":
        return (gzip.open if magic[:2] == b"\x1f\x8b" else open)(path, "rt", encoding="utf-8-sig", newline="\n")
    try:
        from compression import zstd
    except ImportError:
        sys.exit(f"{path}: the standard library reads Zstandard from Python 3.14 on; unpack it first: zstd -d {path}")
    return zstd.open(path, "rt", encoding="utf-8-sig", newline="\n")


def read(path):
    numbered = enumerate(lines(path), start=1)
    for number, line in filter(lambda one: one[1].strip(" \t\r\n\ufeff"), numbered):
        if line.startswith('{"spans":[{"type":"compacted'):
            sys.exit(f"{path}: compacted (docs/spec-records.md); first: agenttrace compact {path} -o plain.jsonl")
        record = json.loads(line)
        if not {"turns", "outcome"} & record.keys():
            raise ValueError(f"line {number}: no record of agenttrace 1.0.0 or later")
        yield record


def count(path):
    found, tasks, stops, solved = Counter(left_out=0), set(), Counter(), Counter()
    for record in read(path):
        old = "turns" in record  # a rollout of schema 1.0.0
        outcome, steps = (record, record["turns"]) if old else (record["outcome"], record["llm_steps"])
        ended = STOPS.get(record["stop"], record["stop"]) if old else outcome["ended"]
        if ended in INFRASTRUCTURE:
            found["left_out"] += 1
            continue
        task = record["instance_id"] if old else record["metadata"].get("task_id", record["trace_id"])
        tasks.add((record["metadata"].get("dataset_name"), task))
        tokens = [step["output_tokens"] for step in steps]
        verdicts = {one["verdict"] for one in outcome["verdicts"]}
        stops[ended] += 1
        solved["failed" if "failed" in verdicts else "passed" if verdicts == {"passed"} else None] += 1
        found.update(rollouts=1, turns=len(steps), generated=0 if None in tokens else sum(tokens))
        found["commands"] += sum(bool(step.get("execution")) for step in steps)
        found["commands"] += sum(one["tool_name"] == "bash" for one in record.get("spans", ()))
    return {**found, "tasks": len(tasks), "stops": stops, "passed": solved["passed"], "failed": solved["failed"]}


for name in sys.argv[1:]:
    try:
        print(json.dumps({"file": name, **count(name)}, sort_keys=True))
    except (OSError, EOFError, ValueError, TypeError, LookupError, AttributeError) as error:
        sys.exit(f"{name}: cannot be read: {error!r}")
