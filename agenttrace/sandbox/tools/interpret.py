"""Run a file of Python code the way a notebook cell runs: `python3 -B interpret.py FILE`.

The code sees itself as `<python_interpreter>` and as `__main__`; modules of the working directory import. A last
statement that is an expression prints its value as the interactive prompt does. An uncaught exception prints the
traceback of the user's code only and ends the process with status 1; `SystemExit` is honoured.
"""

import ast
import builtins
import sys
import types

FILENAME = "<python_interpreter>"


def _print_value(value: object) -> None:
    """Show the value of a last expression, and nothing for `None`."""
    if value is not None:
        sys.stdout.write(repr(value) + "\n")


def _run(source: bytes, module: types.ModuleType) -> None:
    """Execute `source` in `module`; the value of a last expression is printed."""
    tree = ast.parse(source, FILENAME)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, FILENAME, "exec", dont_inherit=True), module.__dict__)  # noqa: S102 -- this is the tool
    if isinstance(last, ast.Expr):
        expression = ast.Expression(last.value)
        _print_value(eval(compile(expression, FILENAME, "eval", dont_inherit=True), module.__dict__))  # noqa: S307


def _without_own_frames(error: BaseException) -> None:
    """Drop this script's frames from the front of the traceback, so that it starts in the user's code."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    if isinstance(error, SyntaxError) and error.filename == FILENAME and not _mentions_user_code(trace):
        trace = None
    error.__traceback__ = trace


def _mentions_user_code(trace: types.TracebackType | None) -> bool:
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == FILENAME:
            return True
        trace = trace.tb_next
    return False


def _report(error: BaseException, source: bytes) -> None:
    """Print the traceback with the user's own source lines."""
    import linecache  # noqa: PLC0415 -- only failing code pays for it
    import traceback  # noqa: PLC0415

    lines = source.decode("utf-8", "replace").splitlines(keepends=True)
    linecache.cache[FILENAME] = (len(source), None, lines, FILENAME)
    _without_own_frames(error)
    sys.stdout.flush()
    traceback.print_exception(error)


def main(path: str) -> int:
    """Run the file at `path`; returns the exit status (a `SystemExit` of the code passes through)."""
    with open(path, "rb") as file:  # noqa: PTH123 -- imports here are part of every measured call
        source = file.read()
    module = types.ModuleType("__main__")
    module.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = module
    sys.argv = [""]
    sys.path[0] = ""
    try:
        _run(source, module)
    except SystemExit:
        raise
    except BaseException as error:  # noqa: BLE001 -- whatever the code raised is its result
        _report(error, source)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
