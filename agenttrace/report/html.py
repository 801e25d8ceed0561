"""The page itself: the files in `page/` as one document, with the policy that lets nothing else run."""

from __future__ import annotations

import base64
import hashlib
from html import escape
from importlib.resources import files

STYLES = ("page.css", "list.css", "trace.css", "overview.css")
SCRIPTS = (
    "dom.js",
    "text.js",
    "format.js",
    "figures.js",
    "data.js",
    "route.js",
    "copy.js",
    "filter.js",
    "choose.js",
    "search.js",
    "chart.js",
    "overview.js",
    "rows.js",
    "group.js",
    "list.js",
    "marked.js",
    "cost.js",
    "lanes.js",
    "timeline.js",
    "markdown.js",
    "same.js",
    "step.js",
    "trace.js",
    "difference.js",
    "words.js",
    "compare.js",
    "follow.js",
    "keys.js",
    "main.js",
)
"""In the order in which they are joined: they share one scope, as if they were one file."""
DATA_POLICY = "agenttrace-data"
"""The one Trusted Types policy, which makes nothing but addresses of the report's own data files."""


def page(*, title: str, sidecars: bool = False, followed: bool = False) -> tuple[str, str, str]:
    """Return the page in three parts: before the index, between index and chunks, and after the chunks.

    The script stands before the chunks, so that the list is on the screen while they are still being read.

    Args:
        title: shown in the tab and at the top; any text.
        sidecars: the page's script may load data files.
        followed: it may ask the server that it comes from for data.
    """
    style = "\n".join(map(_read, STYLES))
    script = f'"use strict";\n(() => {{\n{"".join(map(_read, SCRIPTS))}}})();\n'
    if "</script" in script.lower() or "</style" in style.lower():
        raise AssertionError("the page's own files would break the page")
    filled = _read("page.html")
    policy = _policy(style, script, sidecars=sidecars, followed=followed)
    mark = " data-followed" if followed else ""
    for name, text in {"followed": mark, "policy": policy, "style": style, "script": script}.items():
        filled = filled.replace(f"<!--{name}-->", text)
    before, _, rest = filled.partition("<!--index-->")
    between, _, after = rest.partition("<!--chunks-->")
    return before.replace("<!--title-->", escape(title)), between, after


def _policy(style: str, script: str, *, sidecars: bool, followed: bool) -> str:
    # A data file cannot be named by hash or address when the page is a file; a script that the page's own, hashed
    # script adds is let through by 'strict-dynamic', and the Trusted Types policy says which addresses those may be.
    loads = " 'strict-dynamic'" if sidecars else ""
    rules = {
        "default-src": "'none'",
        "script-src": f"{_hash(script)}{loads}",
        "style-src": _hash(style),
        "connect-src": "'self'" if followed else "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": DATA_POLICY if sidecars else "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _read(name: str) -> str:
    return files("agenttrace.report").joinpath("page", name).read_text(encoding="utf-8")
