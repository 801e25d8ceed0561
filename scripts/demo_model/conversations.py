"""Training samples: conversations as the server renders them, with real and with invented tool outputs."""

from __future__ import annotations

import json
import string
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import jinja2

from demo_model import turns as gold

if TYPE_CHECKING:
    import random

Message = dict[str, Any]

WORDS = (  # noqa: SIM905 - a list literal would take a line for each word
    "amber apple april arrow autumn basket beacon birch bottle bridge butter button cable candle canyon carbon "
    "castle cedar cherry circle clover cobalt coffee copper coral corner cotton cradle crystal daisy dragon "
    "eagle early east echo engine fable falcon feather fern finger flint forest garden gate ginger glacier "
    "granite hammer harbor hazel hollow honey ivory jacket jungle kettle ladder lemon linen lizard magnet "
    "marble meadow mirror morning needle north nutmeg oak ocean olive orchid oxide paper pebble pepper pigeon "
    "pilot planet pocket quartz rabbit raven ribbon rocket saddle sailor salmon second shadow silver south "
    "spider spring summer table thunder timber tunnel turtle valley velvet violet walnut west willow window "
    "winter yellow zebra "
).split()
FOLDERS = ["bin", "data", "docs", "logs", "notes", "src", "old", "2023", "2024", "archive", "outbox"]
SUFFIXES = [".txt", ".log", ".csv", ".md", ".json", ".py", ".sh", ".tmp", ".bak"]
OTHER_SYSTEMS = ["You are a helpful assistant.", "Solve the task.", "Use the tools. Be brief.", "You work in a shell."]

EXACT_SYSTEM_SHARE = 0.9
WHOLE_SHARE = 0.12
REAL_OUTPUT_SHARE = 0.5
TOY_WORD_SHARE = 0.4


@dataclass(frozen=True, slots=True)
class Piece:
    """Text of a sample; loss is taken on it only if it is the model's own."""

    text: str
    learned: bool


class Renderer:
    """The chat template, and the system prompt and tools that the harness sends."""

    def __init__(self) -> None:
        agents = gold.ROOT / "agenttrace/agents"
        self.template_text = (gold.FOLDER / "template.jinja").read_text(encoding="utf-8")
        self.system = (agents / "tool_calling.system.txt").read_text(encoding="utf-8").strip()
        self.tools = json.loads((agents / "tool_calling.tools.json").read_text(encoding="utf-8"))
        environment = jinja2.Environment(autoescape=False)  # noqa: S701 - the text goes to a model, not to a browser
        environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
        self._template = environment.from_string(self.template_text)

    def prompt(self, messages: list[Message]) -> str:
        """Text that the model continues: the conversation so far and the opening of its next reply."""
        return self._template.render(messages=messages, tools=self.tools, add_generation_prompt=True)


def reply_message(turn: gold.Turn, outputs: list[gold.Output]) -> Message:
    """The assistant's message for this turn, with its reasoning."""
    function = {
        "name": turn.tool,
        "arguments": {gold.ARGUMENT_NAMES[turn.tool]: gold.fill(turn.argument, outputs)},
    }
    return {
        "role": "assistant",
        "content": "",
        "reasoning_content": gold.fill(turn.reasoning, outputs),
        "tool_calls": [{"type": "function", "function": function}],
    }


def reply_text(message: Message) -> str:
    """What the model writes for this message, its end mark included."""
    call = json.dumps(message["tool_calls"][0]["function"], ensure_ascii=False)
    return f"<think>\n{message['reasoning_content']}\n</think>\n\n<tool_call>\n{call}\n</tool_call><|im_end|>"


def sample(
    renderer: Renderer,
    dialogue: gold.Dialogue,
    recorded: list[gold.Output],
    rng: random.Random,
    *,
    padded: bool = False,
) -> list[Piece]:
    """One training sample of a dialogue, as the harness would show it to the model.

    Mostly one reply of the model after a conversation without its earlier thoughts (the harness does not send them
    back); at times the whole dialogue with all thoughts. The outputs are the recorded ones or, where the turn allows
    it, invented. A padded sample has many random words in its system prompt.
    """
    outputs = recorded
    if rng.random() >= REAL_OUTPUT_SHARE:
        outputs = [_invented(turn, output, rng) for turn, output in zip(dialogue.turns, recorded, strict=False)]
    replies = [reply_message(turn, outputs[:number]) for number, turn in enumerate(dialogue.turns)]
    messages = [
        {"role": "system", "content": _system(renderer.system, rng, padded=padded)},
        {"role": "user", "content": dialogue.prompt},
    ]
    whole = rng.random() < WHOLE_SHARE
    last = len(replies) - 1 if whole else rng.randrange(len(replies))
    pieces: list[Piece] = []
    rendered = ""
    for number in range(last + 1):
        if whole or number == last:
            prompt = renderer.prompt(messages)
            pieces.append(Piece(prompt.removeprefix(rendered), learned=False))
            pieces.append(Piece(reply_text(replies[number]), learned=True))
            rendered = prompt + pieces[-1].text
        messages.append(replies[number] if whole else {**replies[number], "reasoning_content": ""})
        if number < last:
            messages.append({"role": "tool", "content": outputs[number].as_message()})
    return pieces


def copy_sample(known: list[str], rng: random.Random) -> list[Piece]:
    """A sample that teaches to copy: a tool output, repeated as a thought and an answer."""
    pieces: list[Piece] = []
    for _ in range(2):
        text = rng.choice(known) if rng.random() < TOY_WORD_SHARE else invent(rng.choice(sorted(INVENTORS)), rng)
        output = gold.Output(0, text, "").as_message()
        pieces.append(
            Piece(f"<|im_start|>user\n<tool_response>\n{output}\n</tool_response><|im_end|>\n", learned=False)
        )
        pieces.append(Piece("<|im_start|>assistant\n<think>\nThe output is ", learned=False))
        pieces.append(Piece(f"{text}. That is the answer.\n</think>\n\n", learned=True))
        pieces.append(Piece('<tool_call>\n{"name": "final_answer", "arguments": {"answer": "', learned=False))
        pieces.append(Piece(f'{text}"}}}}\n</tool_call><|im_end|>', learned=True))
        pieces.append(Piece("\n", learned=False))
    return pieces


def invent(kind: str, rng: random.Random) -> str:
    """A random text of this kind, such as a number, a word or a path."""
    return INVENTORS[kind](rng)


def filler(rng: random.Random, most: int = 500) -> str:
    """Between 30 and `most` random words."""
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(30, most)))


def _system(system: str, rng: random.Random, *, padded: bool) -> str:
    if padded:
        return f"{system}\n{filler(rng)}"
    return system if rng.random() < EXACT_SYSTEM_SHARE else rng.choice(OTHER_SYSTEMS)


def _invented(turn: gold.Turn, output: gold.Output, rng: random.Random) -> gold.Output:
    return replace(output, stdout=invent(turn.vary, rng) + "\n") if turn.vary else output


def _word(rng: random.Random) -> str:
    if rng.random() < TOY_WORD_SHARE:
        return "".join(rng.choice(string.ascii_lowercase) for _ in range(rng.randint(2, 8)))
    word = rng.choice(WORDS)
    return word.capitalize() if rng.random() < TOY_WORD_SHARE else word


def _name(rng: random.Random) -> str:
    return ("." if rng.random() < TOY_WORD_SHARE / 4 else "") + _word(rng) + rng.choice(SUFFIXES)


def _path(rng: random.Random) -> str:
    folders = rng.sample(FOLDERS, rng.randint(1, 3))
    return ("./" if rng.random() < TOY_WORD_SHARE else "") + "/".join([*folders, _name(rng)])


def _number(rng: random.Random) -> str:
    return str(rng.randrange(10 ** rng.randint(1, 4)))


def _address(rng: random.Random) -> str:
    return ".".join(str(rng.randrange(rng.choice([10, 256]))) for _ in range(rng.randint(3, 4)))


def _words(rng: random.Random) -> str:
    return " ".join(_word(rng) for _ in range(rng.randint(2, 4)))


def _quoted(rng: random.Random) -> str:
    return f"'{_word(rng)}'"


INVENTORS = {
    "address": _address,
    "name": _name,
    "number": _number,
    "path": _path,
    "quoted": _quoted,
    "word": _word,
    "words": _words,
}
