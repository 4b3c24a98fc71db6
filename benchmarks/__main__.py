"""Which benchmarks are there, and how is one run?

python -m benchmarks                     lists them
python -m benchmarks CASE [ARGUMENTS]    runs one; CASE --help says what it takes
"""

from __future__ import annotations

import ast
import runpy
import sys
from pathlib import Path

FOLDER = Path(__file__).parent


def cases() -> dict[str, str]:
    """Each case, and the question it answers: the first line of its file."""
    found: dict[str, str] = {}
    for path in sorted(FOLDER.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        if "main" in functions and path.stem != "__main__":
            found[path.stem] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return found


def main() -> None:
    known = cases()
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print("usage: python -m benchmarks CASE [ARGUMENTS]\ncases:")
        for name, question in known.items():
            print(f"  {name:20} {question}")
        return
    case = sys.argv[1]
    if case not in known:
        raise SystemExit(f"there is no benchmark {case!r}; there are {', '.join(known)}")
    sys.argv = [f"python -m benchmarks {case}", *sys.argv[2:]]
    runpy.run_module(f"benchmarks.{case}", run_name="__main__")


if __name__ == "__main__":
    main()
