"""The bash-block agent: each turn the model writes a thought and one bash block, and is answered with what it printed.

The conversation has the form of mini-swe-agent v1 (system, task, then assistant and user in turn). Differences to the
rollouts of SWE-ZERO, all of them recorded: a reply with several blocks is a format error, not its first block; one
malformed reply does not end a rollout; the submitting command must succeed, as mini-swe-agent requires.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from agenttrace.agents import AgentOptions, Observation
from agenttrace.agents.constrained import BASH_BLOCK_GRAMMAR
from agenttrace.agents.run import RunEnd, RunLog, unrunnable
from agenttrace.records import BashBlockSpec, canonical_json, digest
from agenttrace.serving.budget import RESERVE_TOKENS
from agenttrace.serving.model import NoReplyError, ProposedCall, RequestRefusedError

if TYPE_CHECKING:
    from agenttrace.agents import Shell
    from agenttrace.agents.run import Run, Watch
    from agenttrace.records import LLMStep, Output
    from agenttrace.sandbox.policies import Policy
    from agenttrace.sandbox.reports import CallReport
    from agenttrace.serving.model import Messages, Model
    from agenttrace.tasks import Task

VERSION = 1
TOOL = "bash"
MARKERS = ("COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT", "MINI_SWE_AGENT_FINAL_OUTPUT")
"""A successful command whose output starts with a line that is one of these submits."""
LEAST_REPLY_TOKENS = 64
"""A turn is not begun with less room than this, as upstream."""
KEEP_BYTES = 64 * 1024
"""Kept of each output stream, head and tail."""
SUBMISSION_BYTES = 2**20
"""Kept of those of a command that names a marker: what it submits must be whole."""
OBSERVATION_CHARS: dict[Observation, int] = {"swe-zero": 8_000, "mini-swe-agent": 10_000}
"""Longest output that is shown whole: of SWE-ZERO, and of mini-swe-agent's `default.yaml` (v1.17.5)."""
MAX_TURNS = 30
MAX_FORMAT_ERRORS = 3
MAX_OUTPUT_TOKENS = 1024
CALL_LIMIT_MS = 30_000
_FIELD = re.compile(r"\{(\w+)\}")
_FENCE = "```"
_START = re.compile(rf"{_FENCE}bash(\s*\n)")


def blocks(content: str) -> list[str]:
    r"""Return the bash blocks of a reply, in order.

    The same as the pattern of mini-swe-agent v1, "```bash\s*\n(.*?)\n```" with dots for line feeds, gives. That takes
    time by the square of the line feeds after an open fence, and a model that repeats itself writes many.
    """
    found: list[str] = []
    at = 0
    while start := _START.search(content, at):
        first = start.end()
        end = content.find(f"\n{_FENCE}", first)
        if (
            end < 0
            and content.startswith(_FENCE, first)
            and (early := content.rfind("\n", start.start(1), first - 1)) >= 0
        ):
            first, end = early + 1, first - 1  # the pattern gives back the last line feed: an empty block
        if end < 0:
            at = start.start() + 1
        else:
            found.append(content[first:end].strip())
            at = end + 1 + len(_FENCE)
    return found


def _template(name: str) -> str:
    return (Path(__file__).parent / f"bash_block.{name}.txt").read_text(encoding="utf-8")


def filled(template: str, values: dict[str, str]) -> str:
    """Return the template with its fields in place; braces in a value, which others wrote, mean nothing."""
    text = _FIELD.sub(lambda found: values.get(found[1], found[0]), template)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


class BashBlockAgent:
    """Works on one task at a time.

    Args:
        spec: templates, limits and rules.
        model: continues the conversation.
        shell: runs the commands.
        watch: called with every finished step and span, for progress; must not raise.
    """

    counts_tokens = True

    def __init__(self, spec: BashBlockSpec, model: Model, shell: Shell, watch: Watch = lambda _: None) -> None:
        self._spec = spec
        self._model = model
        self._shell = shell
        self._watch = watch

    @staticmethod
    def spec(options: AgentOptions, *, policy: Policy, context_length: int, checkout: bool) -> BashBlockSpec:
        """Return the agent's part of a run spec, its system message with the commands that the policy lets exist."""
        about = "" if checkout else ".shell"
        commands = policy.commands if isinstance(policy.commands, str) else ", ".join(policy.commands)
        return BashBlockSpec(
            version=VERSION,
            system_template=options.system_prompt or filled(_template(f"system{about}"), {"commands": commands}),
            instance_template=_template(f"task{about}"),
            observation_template=options.observation,
            format_error_template=_template("format_error"),
            max_turns=options.max_steps or MAX_TURNS,
            max_format_errors=MAX_FORMAT_ERRORS,
            max_output_tokens=options.max_output_tokens or MAX_OUTPUT_TOKENS,
            max_total_tokens=options.max_total_tokens or context_length,
            reserve_tokens=RESERVE_TOKENS,
            observation_max_chars=OBSERVATION_CHARS[options.observation],
            call_limit_ms=options.call_limit_ms or CALL_LIMIT_MS,
            system_prompt_from="given" if options.system_prompt else UNSET,
            grammar=BASH_BLOCK_GRAMMAR if options.constrained == "on" else UNSET,
        )

    @staticmethod
    def options(spec: BashBlockSpec) -> AgentOptions:
        """Return the options that give this spec again."""
        return AgentOptions(
            max_steps=spec.max_turns,
            call_limit_ms=spec.call_limit_ms,
            max_output_tokens=spec.max_output_tokens,
            max_total_tokens=spec.max_total_tokens,
            observation=spec.observation_template,
            system_prompt=None if spec.system_prompt_from is UNSET else spec.system_template,
            constrained="off" if spec.grammar is UNSET else "on",
        )

    @staticmethod
    def prompt(spec: BashBlockSpec, task: Task) -> str:
        r"""Return the second message: what the agent is told of a task.

        The reference solution and the hidden tests are no field of it. A lone surrogate in the row becomes `\udNNN`.
        """
        return filled(spec.instance_template, {"problem_statement": task.prompt, **task.fields})

    @staticmethod
    def metadata(spec: BashBlockSpec) -> dict[str, Any]:
        """Return limits, the form of observations, and a digest of the prompts."""
        return {
            "agent": spec.kind,
            "prompt_sha256": digest([spec.system_template, spec.instance_template]),
            "observation_template": spec.observation_template,
            "max_steps": spec.max_turns,
            "max_total_tokens": spec.max_total_tokens,
            **({} if spec.grammar is UNSET else {"constrained": "grammar"}),
        }

    def run(self, trace_id: str, prompt: str) -> Run:
        """Return what came of the task; `prompt` is the second message, after the system message.

        Raises:
            ModelServerError: the server is gone for good.
        """
        self._log = RunLog(trace_id, self._watch)
        self._malformed = 0
        self._messages: Messages = [
            {"role": "system", "content": self._spec.system_template},
            {"role": "user", "content": prompt},
        ]
        return self._log.until_end(self._turn)

    def _turn(self) -> None:
        """Ask once, act on the reply, answer it; raises `RunEnd` when a stop rule fires."""
        if len(self._log.steps) == self._spec.max_turns:
            raise RunEnd("max_steps", f"{self._spec.max_turns} turns")
        counted = self._counted()
        room = self._spec.max_total_tokens - self._spec.reserve_tokens - counted
        if room < min(LEAST_REPLY_TOKENS, self._spec.max_output_tokens):
            raise RunEnd("token_budget", f"the prompt has {counted} of {self._spec.max_total_tokens} tokens")
        limit = min(self._spec.max_output_tokens, room)
        reply = self._log.asked(lambda: self._model.complete(self._messages, max_tokens=limit))
        content = reply.content or ""
        self._messages.append({"role": "assistant", "content": content})
        found = blocks(content)
        said: dict[str, Any] = {"counted_tokens": counted, "blocks": len(found)}
        if reply.tool_calls:
            said["ignored_calls"] = tuple(f"{call.name}: {call.arguments}" for call in reply.tool_calls)
        if len(found) == 1:
            self._malformed = 0
            arguments = canonical_json({"command": found[0]}).decode()
            proposed = [ProposedCall(name=TOOL, arguments=arguments)]
            step = self._log.generated(reply, proposed, answered=None, **said)
            self._act(found[0], step)
        else:
            self._malformed += 1
            answer = self._spec.format_error_template
            self._log.generated(reply, (), answered=answer, **said)
            self._answer(answer)
            if self._malformed == self._spec.max_format_errors:
                raise RunEnd("format_error", f"{self._malformed} replies in a row without exactly one bash block")

    def _counted(self) -> int:
        try:
            return self._model.count(self._messages)
        except (RequestRefusedError, NoReplyError) as error:
            raise RunEnd("model_error", f"the prompt could not be counted: {error}") from None

    def _answer(self, text: str) -> None:
        self._messages.append({"role": "user", "content": text})

    def _act(self, command: str, step: LLMStep) -> None:
        (call,) = step.tool_calls or ()
        refusal = unrunnable(command)
        if refusal is not None:
            text = _shown(refusal, -1, self._spec)
            self._log.not_executed(step, call, text, cut_chars=0)
            self._answer(text)
            return
        keep_bytes = SUBMISSION_BYTES if any(marker in command for marker in MARKERS) else KEEP_BYTES
        limit_ms = self._spec.call_limit_ms
        report, text = self._log.carry_out(
            step,
            call,
            lambda: self._shell.call("bash", command, limit_ms=limit_ms, keep_bytes=keep_bytes),
            lambda report: dict(zip(("tool_output", "cut_chars"), observe(report, self._spec), strict=True)),
        )
        self._answer(text)
        submission = submitted(report)
        if submission is not None:
            lacks = _lacks(report.stdout)
            raise RunEnd("final_answer", lacks, answer=None if lacks else submission)


def submitted(report: CallReport) -> str | None:
    """Return what a submitting command printed after the marker, or `None` when it does not submit."""
    first, _, rest = (report.stdout.text or "").lstrip().partition("\n")
    return rest if report.exit_code == 0 and first.strip() in MARKERS else None


def _lacks(output: Output) -> str | None:
    """Return why a submission is not what the command printed, or `None`."""
    if output.bytes_kept < output.bytes_total:
        return f"the submission is not recorded: of its {output.bytes_total} bytes {output.bytes_kept} were kept"
    return None if output.encoding == "utf-8" else "the submission is not recorded: it is not UTF-8"


def _shown(text: str, exit_code: int, spec: BashBlockSpec) -> str:
    """Return output that is shown whole in the format of the run spec."""
    if spec.observation_template == "swe-zero":
        return f"Observation: {text}"
    return f"<returncode>{exit_code}</returncode>\n<output>\n{text}</output>"


def observe(report: CallReport, spec: BashBlockSpec) -> tuple[str, int]:
    """Return the observation of a call in the format of the run spec, and how many characters it leaves out.

    `swe-zero`: `Observation: `, standard output, then standard error on a line of its own; the middle of more than
    `observation_max_chars` characters is replaced by a line that says how many. `mini-swe-agent`: the tags of its
    `default.yaml` (v1.17.5), with the return code.
    """
    text = "\n".join(part for part in (report.stdout.text, report.stderr.text) if part)
    if report.status == "timeout":
        text = f"{text}\n[command timed out]"
    elif report.status == "oom":
        text = f"{text}\n[command stopped: out of memory]"
    limit = spec.observation_max_chars
    cut = max(0, len(text) - limit)
    head, tail = text[: limit // 2], text[len(text) - (limit - limit // 2) :]
    if not cut:
        return _shown(text, report.exit_code, spec), 0
    if spec.observation_template == "swe-zero":
        return _shown(f"{head}\n[... {cut} characters elided ...]\n{tail}", report.exit_code, spec), cut
    code = f"<returncode>{report.exit_code}</returncode>"
    warning = "<warning>\nThe output was too long and its middle is left out; narrow the command down.\n</warning>"
    elided = f"<elided_chars>\n{cut} characters elided\n</elided_chars>"
    parts = (code, warning, f"<output_head>\n{head}\n</output_head>", elided, f"<output_tail>\n{tail}\n</output_tail>")
    return "\n".join(parts), cut
