"""Forms that a server holds replies to, for models whose chat template knows no tools: a JSON schema, a grammar.

llama-server, vLLM and SGLang enforce `response_format` of type `json_schema`; `tool_choice: required` alone is not
enforced by llama-server for such a template. The texts in a form have a greatest length, so that a model that repeats
itself comes to an end.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from agenttrace.records import ReplyForm
from agenttrace.serving.model import ProposedCall

if TYPE_CHECKING:
    from collections.abc import Sequence

_THOUGHT_CHARS = 200
_MOST_CHARS, _LEAST_CHARS = 2000, 100
"""Of an argument; llama.cpp's grammars take no more repetitions than these."""
_REST_TOKENS = 300
"""For the thought and the form around it."""
_PROMPT = """\
Every reply is one JSON object and nothing else, with a thought and one call of a tool, such as
{example}
The tools, each with its argument:
{tools}"""
_EXAMPLE = {"thought": "First I look at the files.", "tool": "bash", "arguments": {"command": "ls -l"}}
"""A call that does some good where a small model copies it."""
BASH_BLOCK_GRAMMAR = r"""
root ::= "THOUGHT: " thought "\n```bash\n" command "\n```"
thought ::= [^`\n]{1,200}
command ::= [^`\n\t #] line ("\n" line){0,12}
line ::= part{0,200} "`"?
part ::= [^`\n] | "`" [^`\n]
""".lstrip()
"""A thought of one line, then exactly one bash block that does not begin with a comment, in llama.cpp's GBNF."""


def reply_form(tools: Sequence[dict[str, Any]], *, limit_tokens: int) -> ReplyForm:
    """Return the form of a reply that is a thought and a call of one of these tools.

    Args:
        tools: schemas as OpenAI has them.
        limit_tokens: of a reply; an argument is no longer than comes to its end within that, at a token a character.
    """
    chars = max(_LEAST_CHARS, min(_MOST_CHARS, limit_tokens - _REST_TOKENS))
    functions = [tool["function"] for tool in tools]
    lines = [
        f"- {one['name']} ({', '.join(one['parameters']['properties'])}): {one['description']}" for one in functions
    ]
    return ReplyForm(
        schema={"anyOf": [_object(one["name"], [*one["parameters"]["properties"]], chars) for one in functions]},
        prompt=_PROMPT.format(example=json.dumps(_EXAMPLE), tools="\n".join(lines)),
    )


def _object(name: str, parameters: list[str], chars: int) -> dict[str, Any]:
    arguments = {one: {"type": "string", "maxLength": chars} for one in parameters}
    thought = {"type": "string", "maxLength": _THOUGHT_CHARS}
    return _closed({"thought": thought, "tool": {"const": name}, "arguments": _closed(arguments)})


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": [*properties],
        "additionalProperties": False,
    }


def read_call(content: str | None) -> ProposedCall | None:
    """Return the call that a reply of that form is; `None` where it is cut off, or a server did not hold it to it."""
    try:
        value = json.loads(content or "", parse_constant=str)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or not isinstance(value.get("tool"), str):
        return None
    return ProposedCall(name=value["tool"], arguments=json.dumps(value.get("arguments"), ensure_ascii=False))
