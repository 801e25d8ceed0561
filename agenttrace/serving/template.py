"""Chat templates: one of the user's instead of the model's own, and what a template can show to a model."""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET

from agenttrace.errors import UsageError
from agenttrace.models.gguf import served_template, shows_tools
from agenttrace.models.pins import NO_TEMPLATE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agenttrace.records import ModelPin, RunSpec, ServingSpec
    from agenttrace.serving.endpoint import ServerFacts

TEMPLATES = Path(__file__).parent / "templates"
"""The kit's own, by name."""
_ARGUMENT = "--chat-template"


def with_template(pin: ModelPin, serving: ServingSpec, template: str | None) -> tuple[ModelPin, ServingSpec]:
    """Return a model and how it is served, with a template of the user's or with its own.

    The text of the user's stands among the server's arguments, its digest in the pin.

    Raises:
        UsageError: it has neither.
    """
    if template is not None:
        told = msgspec.structs.replace(
            pin,
            chat_template_sha256=hashlib.sha256(served_template(template)).hexdigest(),
            template_tools=UNSET if shows_tools(template) else False,
        )
        return told, msgspec.structs.replace(serving, args=(*serving.args, _ARGUMENT, template))
    if pin.chat_template_sha256 == NO_TEMPLATE:
        raise UsageError(
            f"{pin.name} is a base model: its file has no chat template, so nothing says how a conversation is "
            "written. Give --chat-template FILE, or --chat-template plain (a role and a text, line by line)"
        )
    return pin, serving


def template_of(serving: ServingSpec) -> str | None:
    """Return the template of the user's with which a model was served; `None` where it was its own."""
    return dict(itertools.pairwise(serving.args)).get(_ARGUMENT)


def abilities(facts: ServerFacts, spec: RunSpec) -> Iterator[str]:
    """Yield what the server's chat template cannot do, and what becomes of that, a line each."""
    agent, name = spec.agent, spec.model.name
    held = getattr(agent, "reply_form", UNSET) is not UNSET
    if facts.template_tools is False and agent.kind == "tool_calling":
        if held:
            how = "they stand in the system prompt, and the server holds every reply to a JSON schema"
        else:
            how = "it cannot know them. Try --constrained on (calls by a JSON schema) or --chat-template FILE"
        yield f"the chat template of {name} shows no tools to the model: {how}"
    if facts.template_system is False:
        yield f"the chat template of {name} has no system role: the server puts the system prompt before the task"
    if getattr(agent, "grammar", UNSET) is not UNSET:
        yield "the server holds every reply to a grammar: a thought, then one bash block"
