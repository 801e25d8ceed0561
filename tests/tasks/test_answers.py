"""The code of a run, whatever stands around it."""

from __future__ import annotations

import textwrap
import time

import pytest

from agenttrace.records import Outcome
from agenttrace.tasks import Finished
from agenttrace.tasks.answers import binding, candidate

CODE = "def add(a, b):\n    return a + b\n"
FENCE = "`" * 3


def found(answer):
    return candidate(Finished(outcome=Outcome(ended="final_answer", final_answer=answer), spans=()), "add")


def works(answer):
    """Whether what is found makes the right function."""
    names = {"__name__": "candidate"}
    exec(found(answer), names)
    return names["add"](1, 2) == 3


def indented(text, mark):
    return "".join(f"{mark}{line}" for line in text.splitlines(keepends=True))


FORMS = {
    "an import in a block of its own": f"{FENCE}python\nimport operator\n{FENCE}\nThen:\n{FENCE}python\n"
    f"def add(a, b):\n    return operator.add(a, b)\n{FENCE}",
    "helpers in blocks before and after": f"{FENCE}\nfrom operator import add as plus\n{FENCE}\nand\n{FENCE}\n"
    f"def add(a, b):\n    return sum_of((a, b))\n{FENCE}\nwith\n{FENCE}\n"
    f"def sum_of(both):\n    return plus(*both)\n{FENCE}\nso\n{FENCE}\nassert add(1, 2) == 4\n{FENCE}",
    "alone": CODE,
    "alone, indented": indented(CODE, "    "),
    "closing fence only": f"{CODE}{FENCE}",
    "closing fence at the end of a line": f"{FENCE}python\n{CODE.rstrip()}{FENCE}",
    "opening fence only": f"Here it is:\n{FENCE}python\n{CODE}",
    "opening fence at the end of a line": f"Here it is: {FENCE}python\n{CODE}{FENCE}",
    "four backticks": f"`{FENCE}py\n{CODE}`{FENCE}",
    "tildes": f"~~~python\n{CODE}~~~",
    "tildes around a fence": f"~~~\n{FENCE}python\n{CODE}{FENCE}\n~~~",
    "no language": f"{FENCE}\n{CODE}{FENCE}",
    "odd language": f'{FENCE} {{.python title="a b" #x}}\n{CODE}{FENCE}',
    "unclosed, then another": f"{FENCE}python\nx = 1\n\n{FENCE}python\n{CODE}{FENCE}",
    "carriage returns": f"Here:\n{FENCE}python\n{CODE}{FENCE}\nBye.\n".replace("\n", "\r\n"),
    "carriage returns alone": f"Here:\n{FENCE}python\n{CODE}{FENCE}\nBye.\n".replace("\n", "\r"),
    "byte order mark": f"\ufeff{CODE}",
    "behind thinking in the same line": f"<think>def add(a, b): return a?</think>{CODE}",
    "behind thinking with code": f"<think>{FENCE}\ndef add(a, b):\n    return a\n{FENCE}</think>\n\n{CODE}",
    "tag in the same line": f"<answer>{CODE}</answer>",
    "token of a template": f"<|channel|>final<|message|>{CODE}<|im_end|>",
    "end of a sequence": f"{CODE.rstrip()}</s>",
    "tag in its text": f'{FENCE}python\ndef add(a, b):\n    """<answer>"""\n    return a + b\n{FENCE}',
    "signature after it": (
        f"{FENCE}python\n{CODE}{FENCE}\nIts head: `def add(a, b): ...`\n{FENCE}\ndef add(a, b): pass\n{FENCE}"
    ),
    "list": f"1. Code:\n\n{indented(f'{FENCE}python{chr(10)}{CODE}{FENCE}', '   ')}\n2. Done.",
    "list, at the mark": f"- {FENCE}python\n{indented(f'{CODE}{FENCE}', '  ')}",
    "list, code at the left": f"1) {FENCE}python\n{CODE}{FENCE}",
    "tabs": f"* Code\n{indented(f'{FENCE}python{chr(10)}{CODE}{FENCE}', chr(9))}",
    "quotation": indented(f"Here:\n{FENCE}python\n{CODE}{FENCE}\n", "> "),
    "quotation without blanks": indented(f"{FENCE}\n{CODE}{FENCE}\n", ">"),
    "quotation in a quotation": indented(f"{FENCE}\n{CODE}{FENCE}\n", "> > "),
    "list in a quotation": "> - Code:\n" + indented(f"{FENCE}\n{CODE}{FENCE}\n", ">   "),
    "fence in its docstring": (
        f'{FENCE}python\ndef add(a, b):\n    """Example:\n    {FENCE}\n    add(1, 2)\n    {FENCE}\n    """\n'
        f"    return a + b\n{FENCE}\nBye."
    ),
    "quotation without a fence": indented(f"So:\n\n{CODE}", "> "),
    "interpreter": ">>> def add(a, b):\n...     return a + b\n...\n>>> add(1, 2)\n3\n",
    "interpreter in a fence": f"So:\n{FENCE}pycon\n>>> def add(a, b):\n...     return a + b\n>>> add(1, 2)\n3\n{FENCE}",
    "ellipsis in it": f"So:\nclass A:\n    ...\n\n{CODE}",
    "indented in prose": f"So:\n\n{indented(CODE, '    ')}\nThat's it.",
    "prose before": f"The function:\n{CODE}",
    "prose before and after": f"It's this, if you want it:\n\n{CODE}\nIt adds `a` to b; that isn't hard.\nBye.",
    "imports and prose": f"So:\nimport math\nfrom os import path\n\n{CODE}\nI hope that this helps!",
    "decorated, in prose": f"So:\nimport functools\n@functools.cache\n{CODE}Done with it.",
    "example of its use after it": f"{FENCE}\n{CODE}{FENCE}\n{FENCE}\nfrom mine import add\nadd(1, 2)\n{FENCE}",
    "use in a fence, code in prose": f"So:\n{CODE}\nUse it:\n{FENCE}\nfrom mine import add\n{FENCE}",
    "output in a fence after it": f"{FENCE}python\n{CODE}{FENCE}\nOutput:\n{FENCE}\n3\n{FENCE}",
    "word of the language alone": f"python\n{CODE}",
    "word of the language in a fence": f"{FENCE}\npython\n{CODE}{FENCE}",
    "between marks": f"[BEGIN]\n{CODE}[DONE]\n",
    "HTML": f"<p>So:</p>\n<pre><code class='x'>{CODE.rstrip()}</code></pre>",
    "one word after it": f"So:\n{CODE}\nDone\n",
    "in one line": "The answer is `add = lambda a, b: a + b`.",
    "in one line, three backticks": f"{FENCE}add = lambda a, b: a + b{FENCE}",
    "wrong one before it": f"{FENCE}python\ndef add(a, b): return 0\n{FENCE}\nNo:\n{FENCE}python\n{CODE}{FENCE}",
}


@pytest.mark.parametrize("form", FORMS)
def test_code_is_found_in(form):
    assert works(FORMS[form])


@pytest.mark.parametrize(
    "code",
    [
        "add = lambda a, b: a + b", "add: object = lambda a, b: a + b", "sub, add = None, lambda a, b: a + b",
        "x = add = lambda a, b: a + b", "(add := lambda a, b: a + b)", "from operator import add",
        "from operator import *\nadd = add",
        "from operator import sub as no, add as add", "import operator as o\nadd = o.add",
        "class add:\n    def __new__(cls, a, b): return a + b", "import functools\n@functools.cache\n" + CODE,
        "if True:\n" + indented(CODE, "    "),
        "try:\n    from nowhere import add\nexcept ImportError:\n" + indented(CODE, "    "),
        "for add in [lambda a, b: a + b]: pass", "with open('/dev/null'):\n" + indented(CODE, "    "),
        CODE + "if __name__ == '__main__':\n    raise ValueError(add(1, 2))",
        "match 1:\n    case _:\n" + indented(CODE, " " * 8),
        "def helper(a, b):\n    return a + b\n\nadd = helper", "# -*- coding: utf-8 -*-\n" + CODE,
    ],
)  # fmt: skip
def test_the_name_may_be_bound_by_any_statement(code):
    assert works(code)
    assert works(f"So:\n\n{FENCE}python\n{code}\n{FENCE}\n")


@pytest.mark.parametrize(
    "answer",
    ["", "I would add(1, 2).", f"{FENCE}python\nprint(add(1, 2))\n{FENCE}", "def add(",
    "class A:\n    def add(self): pass",
     "add it to the list, then print", "```", "~~~ add ~~~", "add\0 = 1", "[add for add in x]", "import a.add"],
)  # fmt: skip
def test_no_code_is_no_code(answer):
    assert found(answer) is None


def test_a_block_is_taken_as_it_stands():
    text = 'def add(a, b):\n    """Two  \n\n      \n\tdone"""\n    return a + b\n'
    assert found(f"Here:\n{FENCE}python\n{text}{FENCE}\n") == text
    assert found(textwrap.indent(f"{FENCE}\n{CODE}{FENCE}", "  ")) == CODE


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [FENCE + "\nadd = (\n", "add:\n", "- " * 9 + "add\n", "> " + FENCE + "add\n", "`add`", "if add:\n",
    "\tadd = '''\n", "add = [\n" * 9],
)  # fmt: skip
def test_hostile_text_costs_little(text):
    started = time.process_time()
    found(text * (200_000 // len(text)))
    assert time.process_time() - started < 20


def test_how_a_name_is_bound():
    assert binding("from m import f as add", "add") == "imported"
    assert binding("import add.more", "add") == "imported"
    assert binding(CODE, "add") == "made"
    assert binding('def add(a):\n    """Adds."""\n    ...', "add") == "declared"
    assert binding("def add(a): ...\n" + CODE, "add") == "made"
    assert binding("add(1)", "add") is None
    assert binding("(" * 100_000, "add") is None
