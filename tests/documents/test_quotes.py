"""What documents quote of the code is in it: messages on the page of questions, names of settings."""

from __future__ import annotations

import ast
import re

from tests.documents.blocks import ROOT

QUOTED = re.findall(r"^> (.+)$", (ROOT / "docs" / "faq.md").read_text(encoding="utf-8"), re.MULTILINE)
FILLED = "…"


def texts_of(tree):
    """Every text of a module; what is filled in is `FILLED`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else FILLED for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_every_quoted_message_stands_in_the_code():
    said = [(ROOT / "scripts" / "nox").read_text(encoding="utf-8")]
    for path in (ROOT / "agenttrace").rglob("*.py"):
        said += texts_of(ast.parse(path.read_text(encoding="utf-8")))
    assert len(QUOTED) >= 8
    assert [quoted for quoted in QUOTED if not any(quoted in text for text in said)] == []


def test_every_setting_that_is_described_is_read():
    described = set(re.findall(r"\b[A-Z]+_[A-Z_]+\b", (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")))
    code = "\n".join(
        path.read_text(encoding="utf-8")
        for folder in ("agenttrace", "scripts")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".sh", ""} and path.is_file()
    )
    assert len(described) > 15
    assert sorted(name for name in described if not re.search(rf"\b{name}\b", code)) == []
