# ruff: noqa: INP001 -- a script of the Dockerfile, no package
"""Takes everything out of an image that the policy `execution_free` does not allow: execution_free.py POLICIES_TOML.

Runs as root while the image is built, with the interpreter that the runner keeps. Afterwards the only files that the
tools' user can execute are the shell, the allowed commands and the dynamic loader, and none of those programs can be
read by it. That last part matters: the kernel makes a process whose program is unreadable non-dumpable, so no process
can open `/proc/self/mem` and write machine code into itself, and the loader cannot load a program it may not read.
"""

import os
import re
import shutil
import stat
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

TOOL_ID = 20000
BIN = Path("/usr/bin")
COMMANDS = Path("/usr/local/bin")
PRIVATE = Path("/opt/agenttrace/private")
OURS = Path("/opt/agenttrace")
OTHER_NAMES = {"awk": "mawk"}  # the awk without sockets and loadable extensions
BUILTINS = {"type"}  # of the shell, with no program of that name
UNWANTED = (
    "/etc/perl",
    "/etc/python3*",
    "/opt/agenttrace/tools",
    "/usr/lib/*/gawk",
    "/usr/lib/*/perl*",
    "/usr/libexec",
    "/usr/share/awk",
    "/usr/share/gcc*",
    "/usr/share/gdb",
    "/usr/share/git-core/templates/hooks",
    "/usr/share/perl*",
    "/usr/share/python3*",
)
LIBRARY = re.compile(r"\.so(\.[\w.+-]+)*$")
NOT_OURS = {"/proc", "/sys", "/dev", "/mnt", "/run/secrets"}


def main(policies: str) -> None:
    """Change the image around this process; any surprise ends the build."""
    allowed = tomllib.loads(Path(policies).read_text(encoding="utf-8"))["execution_free"]
    if allowed["path"] != [str(COMMANDS)]:
        sys.exit(f"execution_free: path is {allowed['path']}, this image has {COMMANDS}")
    programs = {name: program(name) for name in allowed["commands"] if name not in BUILTINS}
    for pattern in UNWANTED:
        for path in Path("/").glob(pattern.lstrip("/")):
            shutil.rmtree(path)
    for file in COMMANDS.iterdir():
        file.unlink()
    hide_python()
    shell = (BIN / "bash").resolve()
    kept = {*programs.values(), shell, loader()}
    for path in executables():
        settle(path, kept)
    for name, path in programs.items():
        (COMMANDS / name).symlink_to(path)
    for path in (BIN / "sh", BIN / "bash"):
        if path.resolve() != shell:
            path.unlink(missing_ok=True)
            path.symlink_to(shell.name)
    link_git()
    drop_links({*programs, "sh", "bash"})
    check(kept, programs)
    sys.stdout.write(f"execution_free: {len(programs)} commands, {len(kept)} executable files\n")


def program(name: str) -> Path:
    """The file behind a command; the build fails when there is none."""
    found = shutil.which(OTHER_NAMES.get(name, name), path=str(BIN))
    if found is None:
        sys.exit(f"execution_free: nothing installed provides `{name}`")
    return Path(found).resolve()


def loader() -> Path:
    """The dynamic loader, which the kernel starts programs with and which therefore must stay executable."""
    with open(BIN / "bash", "rb") as file:  # noqa: PTH123
        found = re.search(rb"(/lib[\w./-]*/ld-linux[\w.-]*\.so\.\d)\x00", file.read(4096))
    if found is None:
        sys.exit("execution_free: bash names no loader")
    return Path(os.fsdecode(found[1])).resolve()


def hide_python() -> None:
    """Put the interpreter and its library where only root gets."""
    PRIVATE.mkdir(mode=0o700)
    shutil.move(Path(sys.executable).resolve(), PRIVATE / "python3")
    for tree in Path("/usr/lib").glob("python3*"):
        tree.chmod(0o700)
    for link in BIN.glob("python*"):
        link.unlink()


def executables() -> Iterator[Path]:
    """Every file of the image that could be run: by its mode, or by its first bytes."""
    for folder, folders, names in os.walk("/"):
        folders[:] = [name for name in folders if os.path.join(folder, name) not in NOT_OURS]  # noqa: PTH118
        for name in names:
            path = Path(folder, name)
            info = path.lstat()
            if stat.S_ISREG(info.st_mode) and (info.st_mode & 0o111 or starts_a_program(path)):
                yield path


def starts_a_program(path: Path) -> bool:
    """Whether the kernel would know what to do with the file."""
    with path.open("rb") as file:
        return file.read(4).startswith((b"\x7fELF", b"#!"))


def settle(path: Path, kept: set[Path]) -> None:
    """Give one runnable file the mode it must have, or remove it."""
    if path in kept:
        with path.open("rb") as file:
            script = file.read(2) == b"#!"
        if script:  # dash is not in this image
            text = path.read_bytes()
            path.write_bytes(re.sub(rb"\A#! */\S*", b"#!/bin/bash", text))
        path.chmod(0o755 if script else 0o711)
    elif path.is_relative_to(OURS):
        path.chmod(path.stat().st_mode & 0o700)
    elif any(parent.match("/usr/lib/python3*") for parent in path.parents):
        path.chmod(0o600)
    elif LIBRARY.search(path.name):
        path.chmod(0o644)
    else:
        path.unlink()


def link_git() -> None:
    """Leave git its own program in the folder where it looks for parts of itself, and no helper."""
    folder = Path("/usr/lib/git-core")
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "git").symlink_to(BIN / "git")


def drop_links(wanted: set[str]) -> None:
    """Remove every other name of a program, and links whose program is gone."""
    for folder in (BIN, Path("/usr/sbin"), Path("/etc/alternatives")):
        for path in folder.iterdir():
            if path.is_symlink() and (not path.exists() or path.name not in wanted):
                path.unlink()


def check(kept: set[Path], programs: dict[str, Path]) -> None:
    """Look at the result as the tools' user would; ends the build at the first thing that is wrong."""
    found = set(executables())
    if missing := kept - found:
        sys.exit(f"execution_free: {missing} are gone")
    os.setgroups([])
    os.setgid(TOOL_ID)
    os.setuid(TOOL_ID)
    for path in sorted(found):
        if os.access(path, os.X_OK) and path not in kept:
            sys.exit(f"execution_free: {path} can be executed")
    for name in programs:
        if not os.access(COMMANDS / name, os.X_OK):
            sys.exit(f"execution_free: {name} cannot be executed")
    for path in kept:
        if os.access(path, os.R_OK) and path.suffix != ".sh" and not is_script(path):
            sys.exit(f"execution_free: {path} can be read")
    for secret in (PRIVATE / "python3", OURS / "runner" / "__main__.py"):
        if os.access(secret, os.F_OK):
            sys.exit(f"execution_free: {secret} can be reached")


def is_script(path: Path) -> bool:
    """Whether a file is a script; its interpreter must be able to read it."""
    try:
        with path.open("rb") as file:
            return file.read(2) == b"#!"
    except PermissionError:
        return False


if __name__ == "__main__":
    main(sys.argv[1])
