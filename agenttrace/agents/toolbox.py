"""Carries out `bash` and `python_interpreter` calls in a sandbox worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from agenttrace.agents import ToolResult

if TYPE_CHECKING:
    from agenttrace.records import AgentSpec
    from agenttrace.sandbox.client import Worker
    from agenttrace.sandbox.reports import CallReport

_KINDS: dict[str, tuple[Literal["bash", "python"], str]] = {
    "bash": ("bash", "command"),
    "python_interpreter": ("python", "code"),
}


class SandboxTools:
    """The tools of one worker, under the limits of a run spec."""

    def __init__(self, worker: Worker, spec: AgentSpec) -> None:
        self._worker = worker
        self._spec = spec

    def names(self) -> tuple[str, ...]:
        """Return the tools that run in the sandbox."""
        return tuple(_KINDS)

    def execute(self, name: str, arguments: dict[str, str]) -> ToolResult:
        """Run one call in the worker.

        Raises:
            WorkerLostError: the worker died under the call.
        """
        kind, parameter = _KINDS[name]
        report = self._worker.call(
            kind, arguments[parameter], limit_ms=self._spec.call_limit_ms, keep_bytes=self._spec.keep_bytes
        )
        wall_ns = report.telemetry.wall_ns
        return ToolResult(
            text=tool_text(report, limit_ms=self._spec.call_limit_ms),
            exit_code=report.exit_code,
            fields={
                "start_ns": report.start_ns,
                "end_ns": report.end_ns,
                "duration_ms": (report.end_ns - report.start_ns if wall_ns is None else wall_ns) / 1e6,
                "telemetry": report.telemetry,
                "status": report.status,
                "signal": report.signal,
                "stdout": report.stdout,
                "stderr": report.stderr,
            },
        )


def tool_text(report: CallReport, *, limit_ms: int) -> str:
    """Return what the model reads: exit code, then standard output and standard error where there is any."""
    lines = [f"exit_code: {report.exit_code}"]
    if report.status == "timeout":
        lines.append(f"The call was stopped at its time limit of {limit_ms / 1000:g} s.")
    elif report.status == "oom":
        lines.append("The call was stopped because it used too much memory.")
    for name, output in (("stdout", report.stdout), ("stderr", report.stderr)):
        text = output.text.rstrip("\n")
        if text:
            lines += [f"{name}:", text]
    return "\n".join(lines)
