"""House rule: what a function does is said by a verb, the docstring's first word."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import lorasweep

ROOT = Path(lorasweep.__file__).parent
# A new one is added where it is a verb; a second word for what one of these says is not.
VERBS = """
account act add advise answer append apply arrange ask audit begin bind blend break bring build calibrate call caption
check checkpoint choose clip collect commit compare complete compose compute connect convert cook copy count cover cross
cut darken decide declare decode demand derive describe dial digest do draw drop encode end estimate examine explain
fail fill find fit flatten flush follow generate give go grade greet group hand hard-link have hear hide hold import
inflate inject inspect join judge keep kill lay leave let list listen load locate lock log look make map mark mask
mean measure merge mirror mix move name noise note notice offer open order paint parse part pass pick place plan prepare
print push put queue raise rank reach read rebuild record reduce refuse remember remove rename render repeat replace
report resize restore return rise rotate round run sample save say scale score see seed send serve set share show
snapshot sort spell split stand start store stream stroke subtract swap sync take tell tokenize tolerate train translate
try turn vary wait warm warn watch weigh work wrap write yield
""".split()


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield what is called: a property is read, so its docstring is a noun."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if not any("property" in ast.unparse(decorator) for decorator in node.decorator_list):
                yield node


def test_docstrings_of_functions_begin_with_a_verb() -> None:
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        if path.is_relative_to(ROOT / "testing"):  # fixtures are things, and tests are sentences
            continue
        for function in functions(ast.parse(path.read_text(encoding="utf-8"))):
            words = (ast.get_docstring(function) or "").split()
            if words and words[0].rstrip(",;:.").lower() not in VERBS:
                found.append(f"{path.relative_to(ROOT)}:{function.lineno}: {function.name}: {' '.join(words[:6])}")
    assert not found, "\n".join(found)
