"""The token budget against a real llama-server in its container: `nox -s budget-check`."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
from agenttrace.rollouts.options import RolloutOptions, model_and_serving

from agenttrace.host import campaign, compose, engine, weights
from agenttrace.models.reference import find, provisional
from bench.campaigns import budget_fuzz

CONTEXT = 1024
"""Small, so that many prompts come near to it; the smallest that a profile serves."""


def check(*, requests: int, seed: int) -> int:
    """Send random conversations at the edge of their budgets; 0 when every count was right and nothing was refused.

    Raises:
        AgentTraceError: a part did not come up.
    """
    options = RolloutOptions(profile="throughput", context=CONTEXT)
    wanted = find(options.model)
    pin, serving = model_and_serving(msgspec.structs.replace(options, pin=provisional(wanted)))

    def work(at: campaign.Engine) -> int:
        uid, gid = compose.caller(at.info)
        images = {f"AGENTTRACE_{name.upper().replace('-', '_')}_IMAGE": image for name, image in at.built.ids.items()}
        services = compose.Services(
            at.project,
            {
                **images,
                **weights.variables(wanted),
                "AGENTTRACE_UID": str(uid),
                "AGENTTRACE_GID": str(gid),
                "AGENTTRACE_SERVER_ARGS": compose.shell_words(serving.args),
            },
        )
        compose.ensure_volumes(at.sdk)
        weights.fetch(services, wanted)
        services.up("server")
        # This folder is not in the image; what the fuzz imports is.
        code = Path(budget_fuzz.__file__).read_text(encoding="utf-8")
        words = ["--model", pin.name, "--context", str(CONTEXT), "--requests", str(requests), "--seed", str(seed)]
        with services.python(f"{at.project}-budget-{os.getpid()}", "rollouts", code, *words) as process:
            output, _ = process.communicate()
        print(output.decode(), end="")  # noqa: T201 - the session's result
        return process.returncode

    engine.say(f"{requests} requests, seed {seed}, context {CONTEXT}")
    return campaign.guarded(work, targets=("server", "rollouts", "collector"))
