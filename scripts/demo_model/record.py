"""Records what the tools print for every turn of the demo model: `python3 record.py`.

Run it after a change of the fixture, the tasks or the turns, as a plain user on the system whose tools the sandbox
has: messages of programs differ between versions. Writes `outputs.json` beside this file.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import turns

sys.path.insert(0, str(turns.ROOT / "agenttrace"))

from fixture import load, write_tree


def record() -> dict[int, list[dict[str, object]]]:
    """Outputs by task id, each dialogue played on a fresh tree."""
    fixture = load("demo")
    recorded = {}
    for dialogue in turns.load_dialogues():
        with tempfile.TemporaryDirectory() as folder:
            tree = Path(folder) / "testdata"
            write_tree(fixture, tree)
            outputs, answer = turns.play(dialogue, tree)
        print(f"{dialogue.id:3} {dialogue.name}: {answer}")
        recorded[dialogue.id] = [asdict(output) for output in outputs]
    return recorded


if __name__ == "__main__":
    (turns.FOLDER / "outputs.json").write_text(json.dumps(record(), indent=1) + "\n", encoding="utf-8")
