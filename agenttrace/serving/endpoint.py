"""A model server as an endpoint: is it there, what does it report of itself, is it the one the run spec names."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import os
import re
import time
import urllib.parse
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET

from agenttrace.errors import ModelServerError, UsageError
from agenttrace.models.gguf import same_quantization
from agenttrace.records import Record
from agenttrace.serving.profiles import NOT_REPORTED

if TYPE_CHECKING:
    from agenttrace.records import RunSpec
    from agenttrace.serving.wire import Wire

KEY_VARIABLES = ("AGENTTRACE_API_KEY", "OPENAI_API_KEY")
LEAST_KEY_CHARS, LEAST_WORD_CHARS = 5, 8
_SENTINEL = "show_this_tool_8f3a"
"""A tool that no template holds by itself."""
_HEADER_BYTES = 32 * 2**20
"""A GGUF file is its tensors and a header; no tokenizer and template come near this size."""
_GET_S = 10.0
HOST_NAME = "host.docker.internal"
"""How a container calls the machine it runs on; see the service `collector-endpoint`."""
_HINT = (
    f"; the containers reach this machine as {HOST_NAME}: a server here must listen on every interface "
    "(llama-server --host 0.0.0.0), not on 127.0.0.1 alone"
)
THINKING_SWITCH = "enable_thinking"
"""Argument by which chat templates (of Qwen3, DeepSeek, GLM and more) let a model think or not."""
_POLL_S = 0.05
_SHOWN_CHARS = 300
_ABSENT = {404, 405, 501}
_KEY_REFUSED = {401, 403}


class ServerFacts(Record, frozen=True, kw_only=True):
    """What a server reports of itself; `None` is "not reported".

    Attributes:
        build: version of the engine (`/props`).
        models: names under which it serves models (`/v1/models`).
        context_length: tokens of one slot (`/props`), or `max_model_len` (`/v1/models` of vLLM).
        slots: requests it works on at a time.
        chat_template_sha256: over the template's UTF-8 text.
        can_switch_thinking: whether the template reads `THINKING_SWITCH`.
        template_tools: whether it shows tools to the model.
        template_system: whether it knows a system prompt.
        quantization: of the weights.
        weights_bytes: size of the tensors.
        n_params: parameters.
        n_ctx_train: context of the training.
    """

    build: str | None
    models: tuple[str, ...] | None
    context_length: int | None
    slots: int | None
    chat_template_sha256: str | None
    can_switch_thinking: bool | None
    template_tools: bool | None
    template_system: bool | None
    quantization: str | None
    weights_bytes: int | None
    n_params: int | None
    n_ctx_train: int | None


def api_key() -> str | None:
    """Return the key for the endpoint, from the first of `KEY_VARIABLES` that is set; it is recorded nowhere."""
    return next((value for name in KEY_VARIABLES if (value := os.environ.get(name, "").strip())), None)


def scrubbed(text: str, key: str | None) -> str:
    """Return text without the key, which some servers repeat: as it is, in base64 wherever it begins, in hexadecimal.

    A short word (`EMPTY`, `none`) is no secret, and texts may well hold it.
    """
    if key and len(key) >= (LEAST_WORD_CHARS if key.isalpha() else LEAST_KEY_CHARS):
        for form in _forms(key):
            text = text.replace(form, "<API key>")
    return text


@functools.lru_cache(maxsize=4)
def _forms(key: str) -> tuple[str, ...]:
    data = key.encode("utf-8", "surrogateescape")
    forms = [key, urllib.parse.quote(data, safe=""), json.dumps(key)[1:-1], data.hex(), data.hex().upper()]
    parts = [data]
    for before in range(3):  # base64 cuts into threes: only the threes that lie within the key are the same everywhere
        rest = data[-before % 3 :]
        parts.append(rest[: len(rest) - len(rest) % 3])
    parts = [part for part in parts if len(part) >= LEAST_KEY_CHARS]
    encoded = [encode(part).decode() for part in parts for encode in (base64.b64encode, base64.urlsafe_b64encode)]
    return tuple(dict.fromkeys([*forms, *encoded]))


def check_base_url(url: str) -> str:
    """Return the address of an endpoint without a slash at its end.

    Raises:
        UsageError: it is no http(s) address, or holds a password or a query.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"--base-url: {error}") from error
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise UsageError("--base-url: the address must hold no name, password or query; a key goes into " + _keys())
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0 or not url.isprintable() or " " in url:
        raise UsageError(f"--base-url {url!r}: expected an address such as http://localhost:8000/v1")
    return url.rstrip("/")


def _keys() -> str:
    return " or ".join(KEY_VARIABLES)


def _get(wire: Wire, url: str, key: str | None) -> dict[str, Any]:
    """Return the JSON object at an address; empty where the server has none there.

    Raises:
        WireError: there is no answer.
        _StatusError: it is not a good one.
    """
    answer = wire.get(url, within_s=_GET_S)
    if answer.status in _ABSENT or 300 <= answer.status < 400:  # noqa: PLR2004 - redirects
        return {}
    if answer.status >= 400:  # noqa: PLR2004 - errors
        raise _StatusError(answer.status)
    try:
        value = json.loads(scrubbed(answer.body.decode(), key))
    except (ValueError, RecursionError):  # vLLM's /health is empty; elsewhere a page for people may stand
        return {}
    return value if isinstance(value, dict) else {}


class _StatusError(Exception):
    """The server answers with the status of an error."""

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status


def answers(base_url: str, *, key: str | None = None) -> bool:
    """Return whether there is a server at all, whatever it answers."""
    from agenttrace.serving.wire import Wire, WireError  # noqa: PLC0415 - heavy

    with Wire(key) as wire:
        try:
            wire.get(f"{base_url}/models", within_s=_GET_S)
        except WireError:
            return False
    return True


def wait_until_ready(base_url: str, *, timeout_s: float, key: str | None = None) -> ServerFacts:
    """Return the server's facts as soon as it answers.

    Raises:
        ModelServerError: it did not become ready in time, or refuses the key.
    """
    from agenttrace.serving.wire import Wire, WireError  # noqa: PLC0415 - heavy

    root = base_url.removesuffix("/v1")
    last = "no answer"
    with Wire(key) as wire:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            try:
                _get(wire, f"{root}/health", key)
                facts = _facts(_get(wire, f"{root}/props", key), _get(wire, f"{base_url}/models", key))
                return facts if facts.chat_template_sha256 is None else _rendered(wire, root, facts)
            except _StatusError as error:  # 503 while loading
                last = str(error)
                if error.status in _KEY_REFUSED:
                    given = "the key is refused" if key else f"a key is needed: set {_keys()}"
                    raise ModelServerError(f"the model server at {base_url}: {last}; {given}") from None
            except WireError as error:
                last = scrubbed(str(error), key) + (_HINT if error.unreached and HOST_NAME in base_url else "")
            time.sleep(_POLL_S)
    raise ModelServerError(f"the model server at {base_url} is not ready after {timeout_s:.0f} s ({last})")


def _facts(props: dict[str, Any], models: dict[str, Any]) -> ServerFacts:
    """Return what two answers say; a value of another type than expected counts as not reported."""
    template = _as(str, props.get("chat_template"))
    listed = [row for row in _as(list, models.get("data")) or [] if isinstance(row, dict)]
    first = listed[0] if len(listed) == 1 else {}
    meta = _as(dict, first.get("meta")) or {}
    names = tuple(_without_folder(name) for row in listed if (name := _as(str, row.get("id"))))
    generation = _as(dict, props.get("default_generation_settings")) or {}
    caps = _as(dict, props.get("chat_template_caps")) or {}
    return ServerFacts(
        build=_as(str, props.get("build_info")),
        models=names or None,
        context_length=_as(int, generation.get("n_ctx")) or _as(int, first.get("max_model_len")),
        slots=_as(int, props.get("total_slots")),
        chat_template_sha256=hashlib.sha256(template.encode()).hexdigest() if template else None,
        can_switch_thinking=THINKING_SWITCH in template if template else None,
        template_tools=_as(bool, caps.get("supports_tools")),
        template_system=_as(bool, caps.get("supports_system_role")),
        quantization=_as(str, meta.get("ftype")) or _as(str, props.get("model_ftype")),
        weights_bytes=_as(int, meta.get("size")),
        n_params=_as(int, meta.get("n_params")),
        n_ctx_train=_as(int, meta.get("n_ctx_train")),
    )


def _rendered(wire: Wire, root: str, facts: ServerFacts) -> ServerFacts:
    """Return the facts with what a template shows: where the server does not say, it has to render a conversation."""
    from agenttrace.serving.wire import WireError  # noqa: PLC0415 - heavy

    if None not in {facts.template_tools, facts.template_system}:
        return facts
    tool = {"type": "function", "function": {"name": _SENTINEL, "parameters": {"type": "object", "properties": {}}}}
    messages = [{"role": "system", "content": f"s{_SENTINEL}"}, {"role": "user", "content": "x"}]
    asked = msgspec.json.encode({"messages": messages, "tools": [tool]})
    try:
        answer = wire.post(f"{root}/apply-template", asked, within_s=_GET_S)
        text = _as(str, json.loads(answer.body)["prompt"]) if answer.status < 300 else None  # noqa: PLR2004
    except (WireError, ValueError, LookupError, TypeError, RecursionError):
        return facts
    if text is None:
        return facts
    shown = text.replace(f"s{_SENTINEL}", "")
    return msgspec.structs.replace(
        facts,
        template_tools=_SENTINEL in shown if facts.template_tools is None else facts.template_tools,
        template_system=shown != text if facts.template_system is None else facts.template_system,
    )


def _without_folder(name: str) -> str:
    """Return a model's name; of a path, which may hold a user's name, only the file."""
    return re.split(r"[/\\]", name)[-1] if re.match(r"/|~|\.|[A-Za-z]:\\", name) else name


def _as(kind: type, value: Any) -> Any:  # noqa: ANN401 - JSON
    """Return a value of that type which a record can hold; any other counts as not reported."""
    if isinstance(value, str) and kind is str:
        return value.encode("utf-8", "backslashreplace").decode()
    if kind is bool:
        return value if isinstance(value, bool) else None
    if isinstance(value, int) and (isinstance(value, bool) or not 0 <= value < 1 << 63):
        return None
    return value if isinstance(value, kind) else None


def check_server(facts: ServerFacts, spec: RunSpec) -> dict[str, str]:
    """Return, per item, whether the server reported what the run spec names (`as pinned`), or `not reported`.

    Items that the run spec does not pin (a model only known by its name) are `not pinned`.

    Raises:
        UsageError: it reported something else; the message names each item with both values.
    """
    pin, serving = spec.model, spec.serving
    ours = serving.engine != "external"
    items: dict[str, tuple[object, object]] = {
        "model": (facts.models, tuple(name for name in (pin.name, pin.artifact) if name != NOT_REPORTED)),
        "context_length": (facts.context_length, pin.context_length),
        "chat_template_sha256": (facts.chat_template_sha256, pin.chat_template_sha256),
        "quantization": (facts.quantization, pin.quantization),
        "weights_bytes": (facts.weights_bytes, pin.bytes or NOT_REPORTED),
    }
    if ours:
        items |= {"build": (facts.build, serving.engine_version), "slots": (facts.slots, serving.slots)}
    found = {name: _compared(name, reported, expected) for name, (reported, expected) in items.items()}
    wrong = [
        f"{name}: the server has {_shown(items[name][0])}, the run spec names {_shown(items[name][1])}"
        for name, verdict in found.items()
        if verdict == "other"
    ]
    if wrong:
        most = facts.n_ctx_train
        advice = ""
        if most is not None and facts.context_length == most < pin.context_length:
            advice = f" ({pin.name} was made for no more: --context {most})"
        raise UsageError("this is not the server of the run spec: " + "; ".join(wrong) + advice)
    if spec.sampler.thinking is not UNSET and facts.can_switch_thinking is False:
        raise UsageError(f"--thinking: the chat template of {pin.name} has no switch for it ({THINKING_SWITCH})")
    return found


def _compared(name: str, reported: Any, expected: Any) -> str:  # noqa: ANN401 - a value of either side
    if reported is None:
        return NOT_REPORTED
    if expected == NOT_REPORTED:
        return "not pinned"
    if name == "model":
        same = any(one in expected for one in reported)
    elif name == "quantization":
        known = same_quantization(reported, expected)
        if known is None:
            return "not pinned"
        same = known
    elif name == "weights_bytes":
        same = 0 <= expected - reported <= _HEADER_BYTES
    else:
        same = reported == expected
    return "as pinned" if same else "other"


def _shown(value: object) -> str:
    """Return a value for a message, cut where a server (or a list of its models) says too much."""
    text = " or ".join(map(repr, value[:8])) if isinstance(value, tuple) else repr(value)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"
