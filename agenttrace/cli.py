"""The command line: `agenttrace VERB`, the nox session of each verb (see `agenttrace.verbs`), and how they end."""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from agenttrace import __version__
from agenttrace.errors import EXIT_INTERRUPTED, AgentTraceError, StorageError, UsageError, did_you_mean, unusable
from agenttrace.show import complain, escape_what_no_terminal_here_shows, have_streams, hush, say
from agenttrace.verbs import GROUPS, VERBS, module_of
from agenttrace.verbs.output import STDOUT, with_json_apart

if TYPE_CHECKING:
    from collections.abc import Callable

    from agenttrace.verbs import Verb


_OF_FILE_NAMES = re.compile("[\udc80-\udcff]")
"""What Python has in the place of a byte of a name that is not UTF-8."""


def main(argv: list[str] | None = None, *, session: bool = False) -> NoReturn:
    """Run one verb and exit with its status; a user's mistake is one message, never a traceback.

    Args:
        argv: the words of the command line; default those of this process.
        session: a nox session runs it: verbs that read records then run in the analysis image.
    """
    given = sys.argv[1:] if argv is None else argv
    name = given[0] if given else "--help"
    if name not in VERBS:
        end_with(lambda: _overview(name))
    verb = VERBS[name]
    end_with(lambda: _run(name, verb, given[1:], session=session), kept=verb.kept)


def _overview(word: str) -> int:
    """Print the version or the verbs by group; of a word that is no verb, say what may have been meant."""
    if word == "--version":
        print(f"agenttrace {__version__}")  # noqa: T201 - what was asked for
        return 0
    if word not in {"-h", "--help"}:
        what, known = ("option", ["--help", "--version"]) if word.startswith("-") else ("verb", [*VERBS])
        raise UsageError(f"there is no {what} {word!r}{did_you_mean(word, known)}; see agenttrace --help")
    lines = [
        "usage: agenttrace VERB [ARGUMENTS]   (agenttrace VERB --help: the options of each; --version)",
        "",
        "Collect and read traces of a tool-using model in which every tool call carries OS telemetry.",
    ]
    for group, purpose in GROUPS.items():
        lines += ["", f"{group}: {purpose}"]
        lines += [f"    {name:18}{verb.help}" for name, verb in VERBS.items() if verb.group == group]
    print("\n".join(lines))  # noqa: T201 - likewise
    return 0


class VerbParser(argparse.ArgumentParser):
    """Says what is wrong with the words after a verb in one line, with what may have been meant."""

    def __init__(self, prog: str, description: str) -> None:
        super().__init__(prog=prog, description=description, allow_abbrev=False)
        self.register("type", Path, _path)

    def words(self, given: list[str]) -> argparse.Namespace:
        """Return the arguments, also where an option stands between words (`show FILE -q 27`)."""
        found, rest = self.parse_known_args(given)
        if rest and not any(word.startswith("-") for word in rest):
            return self.parse_intermixed_args(given)
        return found if not rest else self.parse_args(given)

    def error(self, message: str) -> NoReturn:
        """End with that line."""
        if unknown := re.fullmatch(r"unrecognized arguments: (.*)", message, re.DOTALL):
            words = unknown[1].split()
            options = [word for word in words if word.startswith("-")]
            message = f"there is no option {options[0]}" if options else f"unexpected: {' '.join(words)}"
            message += did_you_mean(options[0].partition("=")[0], self._option_string_actions) if options else ""
        elif choice := re.match(r".*invalid choice: '?([^'\s]*)'? \(choose from (.*)\)", message, re.DOTALL):
            message += did_you_mean(choice[1], re.findall(r"[^',\s]+", choice[2]))
        raise UsageError(f"{message}; see {self.prog} --help")


def _path(text: str) -> Path:
    if not text:  # `"$FILE"` of a variable that is not set; `Path("")` is the current folder
        raise argparse.ArgumentTypeError("an empty name")
    return Path(text)


def _run(name: str, verb: Verb, words: list[str], *, session: bool) -> int:
    module: Any = import_module(module_of(name))
    parser = VerbParser(f"nox -s {name} --" if session else f"agenttrace {name}", verb.help)
    module.add(parser)
    parser.add_argument("-q", "--quiet", action="store_true", help="say nothing but the result, and what is wrong")
    words = with_json_apart(words)
    arguments = parser.words(words)
    hush(quiet=arguments.quiet, results=getattr(arguments, "json", None) == STDOUT)
    from agenttrace.verbs import reading  # noqa: PLC0415

    words = reading.settled(arguments, words)
    if session and verb.where == "image":
        from agenttrace.host import analysis  # noqa: PLC0415

        read, written = reading.paths_of(arguments)
        reading.refuse_unreadable(arguments)
        if hasattr(module, "on_host"):
            return int(module.on_host(name, arguments, words))
        return analysis.run(name, words, read=read, written=written)
    if verb.where == "host" and find_spec("agenttrace.host") is None:
        raise UsageError("this verb starts containers: run it outside of them")
    if verb.where == "host" or name == "doctor":
        from agenttrace.host import place  # noqa: PLC0415

        place.unfold()
    reading.spare_inputs(arguments, replaces=verb.group == "look")
    return int(module.run(arguments))


def end_with(work: Callable[[], int], *, kept: str | None = None) -> NoReturn:
    """Exit with the status of `work`; a user's mistake or Ctrl-C is one message, never a traceback.

    Args:
        work: the command; its result is the status where all went well.
        kept: what an interrupt leaves and what to do next.
    """
    have_streams()
    escape_what_no_terminal_here_shows()
    signal.signal(signal.SIGTERM, _as_interrupt)
    try:
        status = work()
        sys.stdout.flush()
    except AgentTraceError as error:
        status = _tell(error)
    except KeyboardInterrupt:
        say("interrupted" if kept is None else f"interrupted; {kept}")
        status = EXIT_INTERRUPTED
    except BrokenPipeError:  # `agenttrace show FILE | head`
        _drop_output()
        status = 0
    except UnicodeEncodeError as error:
        if not _OF_FILE_NAMES.fullmatch(error.object, error.start, error.start + 1):
            raise
        around = error.object[max(error.start - 20, 0) : error.start + 20]
        status = _tell(UsageError(f"a name that is not UTF-8 cannot be written here: {around!r}; rename it"))
    except (MemoryError, RuntimeError) as error:
        status = _tell(_of_the_machine(error))
    except OSError as error:
        engine = sys.modules.get("agenttrace.host.engine")  # where it was used, it knows what the engine's errors mean
        status = _tell((engine and engine.refusal(error)) or unusable(error))
        if error.filename is None:
            _drop_output()
    sys.exit(status)


def _of_the_machine(error: MemoryError | RuntimeError) -> AgentTraceError:
    """Return what a user can mend of this as an error of ours; raises what is a fault of the kit."""
    if isinstance(error, MemoryError):
        return StorageError("not enough memory; see `ulimit -v`, and the limits of the container that it runs in")
    if str(error).startswith("Symlink loop"):  # of `Path.resolve`, before Python 3.13
        return UsageError(f"{error}: it leads to itself")
    raise error


def _drop_output() -> None:
    """Let what cannot be written go nowhere: Python would try again as it ends, and end with another status."""
    with suppress(OSError):
        sys.stdout.flush()
        return
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _tell(error: AgentTraceError) -> int:
    complain(_shown(str(error)))
    return error.exit_code


def _shown(message: str) -> str:
    """Return a message with the host's name of the records folder instead of the container's."""
    return message.replace("/data/", f"{os.environ.get('AGENTTRACE_SHOWN_FOLDER', '/data').rstrip('/')}/")


def _as_interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt
