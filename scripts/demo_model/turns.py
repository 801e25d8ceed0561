"""The turns that the demo model learns, and what their tools really print. Standard library only."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent.parent
ARGUMENT_NAMES = {"bash": "command", "python_interpreter": "code", "final_answer": "answer"}


@dataclass(frozen=True, slots=True)
class Turn:
    """One reply of the model: a thought and a tool call; `@{N}` in them stands for the output of turn N."""

    reasoning: str
    tool: str
    argument: str
    vary: str = ""
    """Kind of text that may replace this turn's output in training; empty if only the real output makes sense."""


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A task and the turns that end it."""

    id: int
    name: str
    prompt: str
    turns: tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class Output:
    """What a tool call left: exit code and both streams."""

    exit_code: int
    stdout: str
    stderr: str

    def as_message(self) -> str:
        """Content of the tool message: the exit code, then what each stream holds, without last line breaks."""
        lines = [f"exit_code: {self.exit_code}"]
        for name, text in (("stdout", self.stdout), ("stderr", self.stderr)):
            if shown := text.rstrip("\n"):
                lines += [f"{name}:", shown]
        return "\n".join(lines)

    def as_value(self) -> str:
        """Standard output without outer white space and quotes: what `@{N}` stands for."""
        return self.stdout.strip().strip("'")


def load_dialogues() -> list[Dialogue]:
    """Dialogues of `turns.toml`, with the prompts of the demo tasks, ordered by task id.

    Raises:
        ValueError: the ids or names in `turns.toml` are not those of the demo tasks.
    """
    tasks = tomllib.loads((ROOT / "agenttrace/tasks/demo.toml").read_text(encoding="utf-8"))["task"]
    dialogues = tomllib.loads((FOLDER / "turns.toml").read_text(encoding="utf-8"))["task"]
    if [(item["id"], item["name"]) for item in tasks] != [(item["id"], item["name"]) for item in dialogues]:
        raise ValueError(
            "turns.toml and agenttrace/tasks/demo.toml do not list the same ids and names in the same order"
        )
    return [
        Dialogue(task["id"], task["name"], task["prompt"], tuple(Turn(**turn) for turn in dialogue["turn"]))
        for task, dialogue in zip(tasks, dialogues, strict=True)
    ]


def load_outputs() -> dict[int, list[Output]]:
    """Recorded outputs by task id, one for each turn but the last."""
    recorded = json.loads((FOLDER / "outputs.json").read_text(encoding="utf-8"))
    return {int(task_id): [Output(**output) for output in outputs] for task_id, outputs in recorded.items()}


def fill(text: str, outputs: list[Output]) -> str:
    """Text with every `@{N}` replaced by the value that turn N printed."""
    for number, output in enumerate(outputs):
        text = text.replace(f"@{{{number}}}", output.as_value())
    return text


def execute(turn: Turn, argument: str, folder: Path) -> Output:
    """Output of one real tool call in `folder`: bash or a fresh Python that prints the value of its last expression."""
    if turn.tool == "bash":
        command = ["bash", "-c", argument]
    else:
        command = [sys.executable, "-c", _printing_last_value(argument)]
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": str(folder)}
    done = subprocess.run(  # noqa: S603 - our own turns, on a throwaway tree
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Output(done.returncode, done.stdout, done.stderr)


def play(dialogue: Dialogue, folder: Path) -> tuple[list[Output], str]:
    """Real outputs of the dialogue's tool calls in `folder`, and its final answer."""
    outputs: list[Output] = []
    for turn in dialogue.turns[:-1]:
        outputs.append(execute(turn, fill(turn.argument, outputs), folder))
    return outputs, fill(dialogue.turns[-1].argument, outputs)


def _printing_last_value(code: str) -> str:
    """Code that shows the value of its last expression, unless it is None, as an interactive Python does."""
    tree = ast.parse(code)
    if tree.body and isinstance(tree.body[-1], ast.Expr):
        show = ast.parse("import sys; sys.displayhook(0)").body
        show[1].value.args = [tree.body[-1].value]  # type: ignore[attr-defined]
        tree.body[-1:] = show
    return ast.unparse(tree)
