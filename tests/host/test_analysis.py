"""Folders and files of the user's machine, as a container gets them."""

from __future__ import annotations

import pytest

from agenttrace.errors import UsageError
from agenttrace.host import analysis


@pytest.mark.parametrize("char", [",", '"', "\n", "\r"])
def test_a_path_that_the_engine_would_read_as_options_is_refused(tmp_path, char):
    path = tmp_path / f"a{char}readonly=false"
    path.mkdir()
    link = tmp_path / "plain"
    link.symlink_to(path)
    for named in (path, link):
        with pytest.raises(UsageError, match="a comma, quote or line end in a path"):
            analysis._bind(named)


def test_a_path_with_blanks_is_given_as_it_is(tmp_path):
    path = tmp_path / "my data"
    path.mkdir()
    assert analysis._bind(path) == f"type=bind,source={path.resolve()},target={path}"
