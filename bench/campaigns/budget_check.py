"""The token budget against a real llama-server in its container: `nox -s budget-check`."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from agenttrace.campaign.options import ROLLOUTS
from agenttrace.host import campaign, compose, guard, place, weights
from agenttrace.models.reference import provisional
from agenttrace.show import say
from bench.campaigns import budget_fuzz

CONTEXT = 1024
"""Small, so that many prompts come near to it; the smallest that a profile serves."""


def check(*, requests: int, seed: int) -> int:
    """Send random conversations at the edge of their budgets; 0 when every count was right and nothing was refused.

    Raises:
        AgentTraceError: a part did not come up.
    """
    options = msgspec.structs.replace(ROLLOUTS, profile="throughput", context=CONTEXT)
    request = campaign.Request(options=(options,), folder=place.datasets())
    pin = provisional(request.reference())
    say(f"{requests} requests, seed {seed}, context {CONTEXT}")
    with guard.guarded(targets=("server", "collector")) as at:
        variables = campaign.variables(request, at) | campaign.server_variables(request, pin)
        services = compose.Services(at.project, variables)
        weights.fetch(services, request.reference())
        services.up("server")
        # This folder is not in the image; what the fuzz imports is.
        code = Path(budget_fuzz.__file__).read_text(encoding="utf-8")
        words = ["--model", pin.name, "--context", str(CONTEXT), "--requests", str(requests), "--seed", str(seed)]
        with services.python(f"{at.project}-budget-{os.getpid()}", "collector", code, *words) as process:
            output, _ = process.communicate()
        print(output.decode(), end="")  # noqa: T201 - the session's result
        return process.returncode
