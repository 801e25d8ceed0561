"""Which tasks a campaign takes: drawn once, by a seeded generator, from what is sorted first."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from agenttrace.errors import UsageError
from agenttrace.records import SamplingPlan

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agenttrace.tasks.swe.task import SweTask


def draw(
    tasks: Iterable[SweTask],
    *,
    seed: int,
    repos: int | None = None,
    per_repo: int | None = None,
    languages: Iterable[str] = (),
    hidden_tests: bool = False,
) -> SamplingPlan:
    """Return the plan: `per_repo` tasks of each of `repos` repositories, grouped by repository.

    The same rows, in any order and on any machine, give the same plan. Only repositories with `per_repo` tasks or more
    take part, as upstream does it.

    Args:
        tasks: every task of the set; read once, of each only the names are kept.
        seed: of the draw.
        repos: how many repositories; `None` takes all.
        per_repo: how many tasks of each; `None` takes all.
        languages: only tasks whose row names one of these; empty takes all.
        hidden_tests: kept in the plan; it does not change the draw.

    Raises:
        UsageError: a number is below 1, or there are fewer repositories or tasks than asked for.
    """
    for name, value in (("--repos", repos), ("--per-repo", per_repo)):
        if value is not None and value < 1:
            raise UsageError(f"{name} {value}: expected 1 or more")
    wanted = {language.lower() for language in languages}
    by_repo: dict[str, list[str]] = {}
    for task in tasks:
        if not wanted or task.language in wanted:
            by_repo.setdefault(task.repo, []).append(task.instance_id)
    eligible = sorted(repo for repo, ids in by_repo.items() if len(ids) >= (per_repo or 1))
    if not eligible or (repos is not None and repos > len(eligible)):
        of = f" with {per_repo} tasks or more" if per_repo else ""
        of += f" whose rows name one of the languages {', '.join(sorted(wanted))}" if wanted else ""
        raise UsageError(f"{repos or 1} repositories asked for; the task set has {len(eligible)}{of}")
    generator = random.Random(seed)  # noqa: S311 - a draw to be repeated, not a secret
    chosen = sorted(generator.sample(eligible, repos)) if repos is not None else eligible
    drawn: list[str] = []
    for repo in chosen:
        ids = sorted(by_repo[repo])
        drawn += sorted(generator.sample(ids, per_repo)) if per_repo is not None else ids
    return SamplingPlan(
        seed=seed,
        repos=repos,
        per_repo=per_repo,
        languages=tuple(sorted(wanted)),
        hidden_tests=hidden_tests,
        task_ids=tuple(drawn),
    )
