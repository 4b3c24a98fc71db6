"""Which benchmarks are there, and how is one run?

python -m benchmarks                     lists them
python -m benchmarks CASE [ARGUMENTS]    runs one; CASE --help says what it takes
python -m benchmarks all [ARGUMENTS]     runs those beside peers, and sums them up
"""

from __future__ import annotations

import ast
import runpy
import sys
from pathlib import Path

FOLDER = Path(__file__).parent


def cases(of: str | None = None) -> dict[str, str]:
    """Each benchmark, and the question it answers: the first line of its file.

    `of`: those alone that define this function, `cases` (measured by `suite.py`) or `main`.
    """
    found: dict[str, str] = {}
    for path in sorted(FOLDER.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        wanted = {of} if of else {"cases", "main"}
        if wanted & functions and path.stem not in ("__main__", "suite"):
            found[path.stem] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return found


def main() -> None:
    known = cases()
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print("usage: python -m benchmarks CASE [ARGUMENTS]\ncases:")
        for name, question in known.items():
            print(f"  {name:20} {question}")
        print(f"  {'all':20} those that are measured beside peers, one after the other")
        return
    case, words = sys.argv[1], sys.argv[2:]
    beside_peers = cases(of="cases")
    if case == "all" or case in beside_peers:
        # Listing needs nothing of this.
        from benchmarks import suite

        found = [suite.main(name, words) for name in (beside_peers if case == "all" else [case])]
        if "--child" not in words:
            suite.print_summary(found)
        return
    if case not in known:
        raise SystemExit(f"there is no benchmark {case!r}; there are all, {', '.join(known)}")
    sys.argv = [f"python -m benchmarks {case}", *words]
    runpy.run_module(f"benchmarks.{case}", run_name="__main__")


if __name__ == "__main__":
    main()
