"""How Sphinx makes the site of these pages (`scripts/nox -s docs`): strict about links and anchors, for use offline."""  # noqa: INP001

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sphinx.util import logging

project = "agenttrace"
author = "the agenttrace authors"
copyright = "the agenttrace authors, Apache-2.0"  # noqa: A001 - Sphinx's name
html_title = "agenttrace"
html_theme = "furo"
html_show_sphinx = False
html_copy_source = False
html_static_path = ["site"]
html_css_files = ["site.css"]
html_theme_options = {"footer_icons": []}
extensions = ["myst_parser"]
myst_heading_anchors = 4

_LOADED_FROM_AFAR = re.compile(r'<(?:script|link|img|source|iframe)\b[^>]*\b(?:src|href|srcset)="(?:https?:)?//[^"]*"')


def _name_what_needs_a_network(app: Any, failed: Exception | None) -> None:  # noqa: ANN401 - Sphinx
    if failed is not None or app.builder.format != "html":
        return
    for page in sorted(Path(app.outdir).rglob("*.html")):
        if found := _LOADED_FROM_AFAR.search(page.read_text(encoding="utf-8")):
            logging.getLogger(__name__).warning("%s: this is loaded from the network: %s", page, found[0])


def setup(app: Any) -> None:  # noqa: ANN401 - Sphinx
    """Have every built page searched for what a reader without network would miss."""
    app.connect("build-finished", _name_what_needs_a_network)
