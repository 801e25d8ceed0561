"""What a rollout of SWE-ZERO's shape takes of this kit: bytes in the store, time of a tree, memory; measured here."""

from __future__ import annotations

import random
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from agenttrace.analysis import runs
from agenttrace.cluster.manifest import read_manifest
from agenttrace.cluster.objects import Store
from agenttrace.cluster.parts import PART_RECORDS, ShardLog
from agenttrace.cluster.runs import begin_run
from agenttrace.cluster.shards import shard_plan
from agenttrace.host import engine
from agenttrace.records import Output, Record
from agenttrace.serving.cassette import Exchange
from agenttrace.tasks.swe import trees
from agenttrace.tasks.swe.rows import SweTask
from bench.campaigns import bench_rollouts
from bench.synthetic import rollouts as synthetic

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agenttrace.campaign.plan import Plan
    from agenttrace.records import Trace

TURNS = 15
"""Most turns of a rollout of the set of 12.29 million; nearly all of them have as many."""
_LINES, _CHARS = (2, 90), 8000
"""Lines that a command prints, so that a conversation has the 9,100 tokens that upstream counts; and what is cut."""
_EMPTY, _SMALL = 0.25, 4
_PER_TASK = 40
"""Files that the rollouts of a task look at, as in `bench-rollouts`."""
_WORDS = 60


class Figures(Record, frozen=True, kw_only=True):
    """What was measured; every figure is a mean.

    Attributes:
        record_bytes: of a rollout in the records of its part.
        cassette_bytes: of a rollout in the cassette of its part.
        line_bytes: of a rollout's record as a line of JSON.
        rollout_bytes: of a rollout in the store, whatever the size of its part.
        part_bytes: of a part, beside that, its cassette's beginning among them.
        manifest_bytes: of the manifest of a shard of 100.
        log_cpu_ms: processor time of storing a rollout.
        read_cpu_us: processor time of reading a record and summing up its figures, as `stats --no-diversity` does.
        tree_cpu_s: processor time of making a tree from a repository that is there, git's included.
        tree_bytes: of its files and its `.git` on disk.
        seat_bytes: memory of a process that makes shards, before its first rollout.
    """

    record_bytes: int
    cassette_bytes: int
    line_bytes: int
    rollout_bytes: int
    part_bytes: int
    manifest_bytes: int
    log_cpu_ms: float
    read_cpu_us: float
    tree_cpu_s: float
    tree_bytes: int
    seat_bytes: int


MEASURED = Figures(
    record_bytes=11_111,
    cassette_bytes=17_945,
    line_bytes=83_197,
    rollout_bytes=27_785,
    part_bytes=20_331,
    manifest_bytes=2_719,
    log_cpu_ms=2.3,
    read_cpu_us=136.7,
    tree_cpu_s=0.66,
    tree_bytes=10_596_352,
    seat_bytes=83_058_688,
)
"""By `measure`, on a machine of two cores."""


def measure(shards: int = 3) -> Figures:
    """Return the figures of this machine; takes a minute or two."""
    with tempfile.TemporaryDirectory(prefix="agenttrace-dry-run-") as folder:
        stored, small = (_stored(Path(folder) / str(most), shards, most) for most in (PART_RECORDS, _SMALL))
        read_us = _read_us(Path(folder), shards)
        seconds, size = _tree(Path(folder))
    both, alone = (one["record_bytes"] + one["cassette_bytes"] for one in (stored, small))
    # Two sizes of parts give what a rollout takes by itself, and what a part does.
    part = (alone - both) / (1 / _SMALL - 1 / PART_RECORDS)
    return Figures(
        **stored,
        rollout_bytes=round(both - part / PART_RECORDS),
        part_bytes=round(part),
        read_cpu_us=read_us,
        tree_cpu_s=seconds,
        tree_bytes=size,
        seat_bytes=_seat_bytes(),
    )


def _source() -> list[str]:
    files = sorted(Path(__file__).parents[2].glob("agenttrace/**/*.py"))
    return [line for path in files for line in path.read_text(encoding="utf-8").splitlines()]


def _stored(folder: Path, shards: int, most: int) -> dict[str, Any]:
    """Store the rollouts of some shards in a folder, in parts of so many, by what stores those of a run."""
    folder.mkdir()
    corpus = _corpus(shards)
    plan = synthetic.plan(corpus)
    run = begin_run(Store(str(folder / "store")), plan.spec, shard_rollouts=100)
    made = {trace.trace_id: trace for trace in _rollouts(corpus)}
    lines = parts = tapes = manifests = 0
    cpu = 0.0
    for shard in range(shards):
        planned = [plan.trace_id(job) for job in shard_plan(plan, run.shards, shard).jobs()]
        taped = {trace_id: _turns(plan, made[trace_id]) for trace_id in planned}
        started = time.process_time()
        with ShardLog(run, shard, planned, scratch=folder, part_records=most, part_seconds=3600) as log:
            for trace_id in planned:
                log.tapes.append(trace_id, taped[trace_id])
                log.append(trace_id, made[trace_id])
            log.commit()
        cpu += time.process_time() - started
        manifest = read_manifest(run, shard)
        assert manifest is not None  # noqa: S101 - it was committed
        parts += sum(part.bytes for part in manifest.parts)
        tapes += sum(part.cassette_bytes for part in manifest.parts)
        manifests += run.store.size(run.manifest(shard)) or 0
        lines += sum(len(msgspec.json.encode(made[trace_id])) + 1 for trace_id in planned)
    return {
        "record_bytes": parts // len(made), "cassette_bytes": tapes // len(made), "line_bytes": lines // len(made),
        "manifest_bytes": manifests // shards, "log_cpu_ms": round(1000 * cpu / len(made), 2),
    }  # fmt: skip


def _corpus(shards: int) -> synthetic.Corpus:
    return synthetic.Corpus(tasks=shards, repos=shards, rollouts=100, max_turns=TURNS)


def _read_us(folder: Path, shards: int) -> float:
    """Read a record file of the rollouts of some shards twice, and return what a rollout took the second time."""
    corpus, path, times = _corpus(shards), folder / "records.jsonl", list[float]()
    synthetic.write(path, synthetic.spec(corpus), _rollouts(corpus))
    for _ in range(2):
        started = time.process_time()
        count = runs.figures(path, diversity=False)[0].rollouts
        times.append((time.process_time() - started) / count * 1e6)
    return round(times[-1], 1)


def _rollouts(corpus: synthetic.Corpus) -> Iterator[Trace]:
    """Yield made-up rollouts whose commands print lines of real code: those of a task look at the same files."""
    source, dice = _source(), random.Random(7)  # noqa: S311 - to be repeated
    words = sorted({word for line in source for word in line.split()})
    seen: dict[str, list[int]] = {}
    for trace in synthetic.rollouts(corpus, ends=("max_steps",)):
        places = [dice.randrange(len(source) - _LINES[1]) for _ in range(_PER_TASK)]
        yield _filled(trace, source, words, seen.setdefault(trace.prompt, places), dice)


def _filled(trace: Trace, source: list[str], words: list[str], places: list[int], dice: random.Random) -> Trace:
    spans = []
    for span in trace.spans:
        start = dice.choice(places)
        text = "" if dice.random() < _EMPTY else "\n".join(source[start : start + dice.randint(*_LINES)]) + "\n"
        spans.append(
            msgspec.structs.replace(
                span,
                tool_output=f"Observation: {text[:_CHARS]}",
                exit_code=0,
                stdout=Output(text=text, bytes_total=len(text.encode()), bytes_kept=len(text.encode())),
                stderr=Output(text="", bytes_total=0, bytes_kept=0),
            )
        )
    steps = [
        msgspec.structs.replace(step, model_output=f"{' '.join(dice.choices(words, k=_WORDS))}\n{step.model_output}")
        for step in trace.llm_steps
    ]
    return msgspec.structs.replace(trace, spans=tuple(spans), llm_steps=tuple(steps))


def _turns(plan: Plan, trace: Trace) -> tuple[Exchange, ...]:
    """Return the requests and replies that a rollout came of."""
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "You work in a shell. " * 100},
        {"role": "user", "content": trace.prompt},
    ]
    made = []
    for step, span in zip(trace.llm_steps, trace.spans, strict=True):
        counts = {"input_tokens": step.input_tokens, "output_tokens": step.output_tokens}
        reply = {"content": step.model_output, "finish_reason": "stop", **counts}
        made.append(
            Exchange(fixed={"model": plan.spec.model.name}, messages=tuple(messages), kind="reply", result=reply)
        )
        messages += [
            {"role": "assistant", "content": step.model_output},
            {"role": "user", "content": span.tool_output},
        ]
    return tuple(made)


def _tree(folder: Path) -> tuple[float, int]:
    """Make a tree of the 2,000 files of `bench-rollouts`, five times; return its processor time and its size."""
    place = folder / "tree"
    place.mkdir()
    bench_rollouts.checkout(place)
    row = msgspec.json.decode((place / "rows.jsonl").read_bytes())
    task = SweTask(**row, language=None, interface=None, test_patch="", patch="")
    bare, times, size = place / "mirror" / "bench" / "checkout" / ".git", [], 0
    for number in range(5):
        made = place / str(number)
        made.mkdir()
        started = _cpu_s()
        tree = trees.make(bare, task, made, hidden_tests=False)
        times.append(_cpu_s() - started)
        size = sum(path.lstat().st_blocks * 512 for path in (made / tree.name).rglob("*"))
        shutil.rmtree(made)
    return round(min(times), 2), size


def _cpu_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _seat_bytes() -> int:
    """Return the peak memory of a process that has imported what makes shards under Ray."""
    words = "import ray, agenttrace.cluster.on_ray, agenttrace.cluster.seat, resource\n"
    words += "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    return 1024 * int(engine.run([sys.executable, "-P", "-c", words]).stdout)
