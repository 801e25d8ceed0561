"""A machine: makes every shard that is not done, with a pause after each record. Arguments: URL, folder, name, seconds.

Run with the folder of the tests on the path; prints how each of its attempts ended.
"""

from __future__ import annotations

import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import made

from agenttrace.campaign.options import Options
from agenttrace.campaign.plan import make_plan
from agenttrace.cluster.objects import Store, check_store
from agenttrace.cluster.runs import begin_run
from agenttrace.cluster.shards import shard_plan

TASKS, SHARD = 6, 20
ROLLOUTS = int(os.environ.get("AGENTTRACE_TEST_ROLLOUTS", "50"))
OPTIONS = Options(count=TASKS, rollouts=ROLLOUTS, external=True, model="scripted", run_id="r1", output="demo.jsonl")


def plan_in(folder):
    return make_plan(OPTIONS, images={}, folder=folder, now=datetime(2026, 11, 2, tzinfo=UTC))


def say(shard, what):
    sys.stdout.write(f"{shard} {what}\n")
    sys.stdout.flush()


def main(url, folder, name, pause_s):
    store, plan = Store(url), plan_in(Path(folder))
    check_store(store)
    run = begin_run(store, plan.spec, shard_rollouts=SHARD)
    for shard in range(run.shards.count):
        if shard in run.done():
            continue
        with made.Attempt(run, shard_plan(plan, run.shards, shard), shard, folder, by=name, part_seconds=0.2) as one:
            say(shard, "begun")
            while one.make(1):
                time.sleep(float(pause_s))
            say(shard, one.log.commit())


if __name__ == "__main__":
    main(*sys.argv[1:])
