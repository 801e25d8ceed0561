"""What only a person can say: read from a file, asked for by name, shown on the card and in `croissant.json`."""

from __future__ import annotations

import json

import pytest

from agenttrace.errors import DataError, UsageError
from agenttrace.publish.about import LONGEST, WANTED, About, said_about
from agenttrace.publish.folder import PublishSettings, publish

SAID = """
citation = "@misc{x}"
url = "https://example.org/x"
published = 2026-11-29
use_cases = "For tests | and nothing else."
biases = "<b>Many</b>"
personal_information = "None."
social_impact = "None."
limitations = "Few records."
doi = "10.5281/zenodo.1234567"
creators = [{name = "Ada Ångström", family = "Ångström", affiliation = "A lab", orcid = "0000-0002-1825-0097"}]
"""


@pytest.fixture
def said(tmp_path):
    path = tmp_path / "about.toml"
    path.write_text(SAID, encoding="utf-8")
    return path


def test_it_stands_on_the_card_and_in_croissant(said, rows, record_file, tmp_path):
    about = said_about(said, strict=True)
    publish([record_file(rows)], tmp_path / "out", PublishSettings(about=about))
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "| use cases | For tests \\| and nothing else. |" in card
    assert "Ada Ångström, A lab, 0000-0002-1825-0097" in card
    assert "<b>" not in card
    body = json.loads((tmp_path / "out" / "croissant.json").read_bytes())
    assert (body["rai:dataBiases"], body["datePublished"]) == ("<b>Many</b>", "2026-11-29")
    assert body["identifier"] == "https://doi.org/10.5281/zenodo.1234567"
    assert body["rai:dataLimitations"][-1] == "Few records."


def test_what_is_of_others_stands_on_the_card_with_its_notice_and_among_the_licences(rows, record_file, tmp_path):
    path = tmp_path / "about.toml"
    theirs = 'name = "Click"\nlicence = "bsd-3-clause"\nwhat = "A <text>."\nnotice = """\nCopyright 2014 Pallets\n"""'
    path.write_text(f"{SAID}\n[[of_others]]\n{theirs}\n", encoding="utf-8")
    publish([record_file(rows)], tmp_path / "out", PublishSettings(about=said_about(path, strict=True)))
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "license:\n- apache-2.0\n- bsd-3-clause\n" in card
    assert "| Click | bsd-3-clause | A &lt;text&gt;. |" in card
    assert "The notice of Click:\n\n```text\nCopyright 2014 Pallets\n```\n" in card
    assert "| of others |" not in card
    body = json.loads((tmp_path / "out" / "croissant.json").read_bytes())
    assert "Records hold texts of others, under their licences: Click (bsd-3-clause)." in body["description"]
    assert "https://spdx.org/licenses/BSD-3-Clause.html" in body["license"]


def test_what_nobody_said_is_named_on_the_card_and_left_out_of_croissant(rows, record_file, tmp_path):
    publish([record_file(rows)], tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert card.count("*not said*") == len(WANTED)
    body = json.loads((tmp_path / "out" / "croissant.json").read_bytes())
    assert not {"rai:dataBiases", "rai:dataUseCases", "creator", "citeAs", "url"} & body.keys()
    assert body["rai:dataLimitations"]


def test_strict_names_everything_that_is_empty(tmp_path):
    with pytest.raises(UsageError) as refused:
        said_about(None, strict=True)
    assert all(name in str(refused.value) for name in WANTED)
    path = tmp_path / "about.toml"
    path.write_text(SAID.replace('biases = "<b>Many</b>"', 'biases = "  "'), encoding="utf-8")
    with pytest.raises(UsageError, match="nobody said biases: "):
        said_about(path, strict=True)
    assert said_about(path, strict=False).biases == ""
    assert said_about(None, strict=False) == About()


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("bias = 'x'", r"'bias' is none of .* \(did you mean biases\?\)"),
        ("biases = 7", "Expected `str`, got `int`"),
        ("biases = x", "not TOML: .*line 1"),
        ("url = 'ftp://x'", "url: expected an address"),
        ("url = 'javascript:x'", "url: expected an address"),
        ("doi = 'https://doi.org/10.5281/zenodo.1'", "doi: expected one such as"),
        ("published = 'yesterday'", "published: expected a day"),
        ("published = '2026-13-40'", "published: expected a day"),
        ("published = '20261129'", "published: expected a day"),
        ("creators = [{name = ' '}]", "number 1 has no name"),
        ("creators = [{name = 'A', orcid = '1'}]", "no ORCID"),
        ("creators = [{name = 'A', family = 'A', orcid = '0000-0002-1825-0098'}]", "0098' is no ORCID"),
        ("creators = [{name = 'A', orcid = '0000-0002-1825-0097'}]", "number 1 has `orcid`, which persons have"),
        ("creators = [{name = 'A', affiliation = 'L'}]", "number 1 has `affiliation`"),
        ("creators = [{name = 'A'}, {name = 'A '}]", "number 2 stands there twice"),
        ("doi = '10.5281/zenodo#1'", "doi: expected one such as"),
        ("version = 'one'", "version: expected one such as 1.0.0"),
        ("version = ''", "version: expected one such as 1.0.0"),
        ("creators = [{nam = 'A'}]", "contains unknown field"),
        (f"biases = '{'x' * (LONGEST + 1)}'", f"biases: has {LONGEST + 1} characters"),
        ("creators = [" + "{name = 'A'}," * 501 + "]", "creators: more than 500"),
        ("of_others = [{name = 'A', licence = 'mit'}]", "missing required field `what`"),
        ("of_others = [{name = 'A', licence = ' ', what = 'B'}]", "of_others: number 1 has no licence"),
        ("of_others = [{name = 'A', licence = 'mit', what = 'B', notice = '```'}]", "of_others: the notice of 'A' has"),
        ("of_others = [" + "{name = 'A', licence = 'mit', what = 'B'}," * 2 + "]", "of_others: 'A' stands there twice"),
    ],
    ids=lambda text: text[:24],
)
def test_what_is_no_answer_is_refused_by_name(line, told, tmp_path):
    path = tmp_path / "about.toml"
    path.write_text(line, encoding="utf-8")
    with pytest.raises(DataError, match=told) as refused:
        said_about(path, strict=False)
    assert str(path) in str(refused.value)


@pytest.mark.parametrize("line", ["doi = '10.1000.10/123'", "version = '1.0.0-rc.1+7'"])
def test_what_archives_take_is_taken(line, tmp_path):
    path = tmp_path / "about.toml"
    path.write_text(f"{line}\ncreators = [{{name = ' A B ', family = 'B', orcid = '0000-0002-1694-233X'}}]")
    assert said_about(path, strict=False).creators[0].name == "A B"


def test_the_command_asks_by_name_and_refuses_under_strict(said, rows, record_file, tmp_path, agenttrace):
    path = record_file(rows)
    ended = agenttrace("publish", path, "-o", tmp_path / "out", "--strict")
    assert (ended.returncode, (tmp_path / "out").exists()) == (2, False)
    assert "nobody said creators, citation, url, published, use_cases, biases" in ended.stderr
    ended = agenttrace("publish", path, "-o", tmp_path / "out")
    assert ended.returncode == 0
    assert "not said: creators" in ended.stdout
    ended = agenttrace("publish", path, "-o", tmp_path / "strict", "--strict", "--about", said)
    assert ended.returncode == 0
    assert "not said" not in ended.stdout
    ended = agenttrace("publish", "-o", tmp_path / "strict", "--upload", "a/b", "--strict")
    assert ended.returncode == 2
    assert "name the files, too" in ended.stderr
