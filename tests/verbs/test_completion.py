"""What a shell completes is what the verbs take."""

import shutil
import subprocess

import pytest

from agenttrace.verbs import VERBS


def completed(script, *words):
    """Return what bash offers for the last of some words, with the script that the verb printed."""
    line = " ".join(f"'{word}'" for word in ("agenttrace", *words))
    asked = (
        f"COMP_WORDS=({line}); COMP_CWORD={len(words)}; _shtab_agenttrace agenttrace '{words[-1]}' '{words[-2:][0]}'"
    )
    code = f'{script}\n{asked}\nprintf "%s\\n" "${{COMPREPLY[@]}}"'
    return subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True).stdout.split()


def test_bash_completes_verbs_options_and_values(agenttrace):
    if shutil.which("bash") is None:
        pytest.skip("no bash here")
    script = agenttrace("completion", "bash").stdout
    assert {*completed(script, "")} >= {*VERBS}
    assert completed(script, "re") == [name for name in VERBS if name.startswith("re")]
    assert completed(script, "collect", "--thi") == ["--thinking"]
    assert completed(script, "collect", "--profile", "") == ["reproducible", "throughput", "stateless"]
    assert completed(script, "show", "--js") == ["--json"]


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_there_is_one_for_other_shells(agenttrace, shell):
    script = agenttrace("completion", shell).stdout
    assert all(name in script for name in VERBS)
    assert "max-output-tokens" not in script
