"""NL2Bash as InterCode curated it: 200 shell tasks over four file systems, in the order that AgentTrace counts in.

Task ids run 0 to 199 over the files `fs_2`, `fs_1`, `fs_4`, `fs_3`. Prompt: the task's sentence, an empty line, one
sentence that names the tool and one that names the folder. Prompt and reference are moved to `/testdata` by one rule
(`agenttrace.tasks.rewrite`).
"""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from agenttrace.errors import DataError
from agenttrace.records import DatasetSpec
from agenttrace.tasks import Finished, Judgement, Task, TaskSet, gold, intercode_reward, sources
from agenttrace.tasks.bench import applied
from agenttrace.tasks.rewrite import VERSION, rewrite

if TYPE_CHECKING:
    from collections.abc import Callable

    from agenttrace.tasks.bench import Bench

POLICY = Path(__file__).parent / "nl2bash_policy.toml"
_OF_THE_REWARD = frozenset({"stdout", "state"})
"""Aspects that the InterCode reward compares."""
HINT = "Use the bash tool to complete the task. The files are under /testdata/."


class _Row(msgspec.Struct, forbid_unknown_fields=True):
    query: str
    gold: str


class _Table(msgspec.Struct, forbid_unknown_fields=True):
    clock: str
    effects: dict[str, str]
    flags: dict[str, str]
    reasons: dict[str, str]
    task: dict[str, gold.GradingPolicy]


class NL2BashTasks(TaskSet):
    """The task set `nl2bash`.

    Args:
        read: gives the bytes of a pinned file; another one only in tests.

    Raises:
        SourceError: the files cannot be had, or are not the pinned ones.
    """

    fixture = "nl2bash"
    files = sources.NL2BASH

    def __init__(self, read: Callable[[sources.SourceFile], bytes] = sources.read) -> None:
        table = policy_table()
        self.clock = table.clock
        data = [read(source) for source in sources.NL2BASH]
        rows = [
            (f"{source.path[-6]}.{number}", row)
            for source, file in zip(sources.NL2BASH, data, strict=True)
            for number, row in enumerate(msgspec.json.decode(file, type=list[_Row]))
        ]
        self.policies = tuple(table.task[str(number)] for number in range(len(rows)))
        if [policy.origin for policy in self.policies] != [origin for origin, _ in rows]:
            raise DataError(f"{POLICY.name}: its tasks are not those of the source files, in their order")
        self.listed = tuple(
            Task(
                task_id=number,
                name=f"fs_{origin}",
                prompt=f"{rewrite(row.query)}\n\n{HINT}",
                kind="shell",
                expect={"gold": rewrite(row.gold)},
            )
            for number, (origin, row) in enumerate(rows)
        )
        self.whole = DatasetSpec(
            name="nl2bash",
            split="train",
            source="github:princeton-nlp/intercode@c3e46d827cfc9d4c704ec078f7abf9f41e3191d8:data/nl2bash",
            sha256=hashlib.sha256(b"".join(data)).hexdigest(),
            offset=0,
            count=len(self.listed),
            prompt_sanitization_version=VERSION,
        )

    def assess(self, task: Task, finished: Finished, bench: Bench) -> Judgement:
        """Return the verdicts `exit_status`, `stdout` and `state`, and the InterCode reward as a score.

        There is no score where what it compares is not gradable: it would be another one at the next run.
        """
        reference = gold.run_gold(bench, task.expect["gold"])
        run = gold.last_call(finished)
        policy = self.policies[int(task.task_id)]
        scores = {} if policy.skip.keys() & _OF_THE_REWARD else _reward(bench, run, reference)
        return Judgement(verdicts=gold.verdicts(policy, run, reference), scores=scores)


def policy_table(path: Path = POLICY) -> _Table:
    """Return the policy table with its reasons filled in.

    Raises:
        DataError: the file is not what it must be.
    """
    try:
        table = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), _Table)
        for number, policy in table.task.items():
            reasons = {aspect: table.reasons[name] for aspect, name in policy.skip.items()}
            table.task[number] = msgspec.structs.replace(policy, skip=reasons)
            if unknown := set(policy.flags) - set(table.flags):
                raise DataError(f"{path}: task {number} has unknown flags {sorted(unknown)}")
    except (ValueError, KeyError) as error:
        raise DataError(f"{path}: not a policy table: {error}") from error
    return table


def _reward(bench: Bench, run: gold.Observed, reference: gold.Observed) -> dict[str, float]:
    """Return the published reward under its name; nothing where it is not defined or not all of it is recorded."""
    if run.changes is None or reference.changes is None or run.cut or reference.cut:
        return {}
    before = bench.before()
    parts = intercode_reward.reward(
        before,
        (applied(before, run.changes), run.text),
        (applied(before, reference.changes), reference.text),
    )
    return {} if parts is None else {intercode_reward.NAME: round(parts.reward, 4)}
