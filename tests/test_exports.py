"""Is the public surface what `__init__.py` (and a stub beside it) lists: each name once, and
explained? (The linter keeps them in order.)
"""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import pellucid

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "pellucid"


def module_of(face: Path) -> str:
    """The dotted name of the package that an `__init__.py` opens."""
    return ".".join(face.parent.relative_to(SOURCE.parent).parts)


FACES = [
    face for face in sorted(SOURCE.rglob("__init__.py")) if "\n__all__" in face.read_text("utf-8")
]


def names_bound(face: Path) -> set[str]:
    """The public names that a face, or else its stub, imports from pellucid or defines."""
    stub = face.with_suffix(".pyi")
    body = ast.parse((stub if stub.exists() else face).read_text(encoding="utf-8")).body
    guarded = [inner for node in body if isinstance(node, ast.If) for inner in node.body]
    bound: set[str] = set()
    for node in [*body, *guarded]:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pellucid"):
            bound |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            bound.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            bound |= {target.id for target in targets if isinstance(target, ast.Name)}
    return {name for name in bound if not name.startswith("_")}


@pytest.mark.parametrize("face", FACES, ids=module_of)
def test_each_name_is_listed_once(face: Path):
    listed = importlib.import_module(module_of(face)).__all__
    assert len(listed) == len(set(listed))


@pytest.mark.parametrize("face", FACES, ids=module_of)
def test_the_list_is_all_that_the_face_binds(face: Path):
    assert set(importlib.import_module(module_of(face)).__all__) == names_bound(face)


@pytest.mark.parametrize("face", FACES, ids=module_of)
def test_each_public_name_is_there_and_says_what_it_is(face: Path):
    package = importlib.import_module(module_of(face))
    silent = [name for name in package.__all__ if not inspect.getdoc(getattr(package, name))]
    assert not silent


def test_pellucid_itself_lists_its_names():
    assert SOURCE / "__init__.py" in FACES


def test_dir_shows_the_public_names():
    assert set(pellucid.__all__) <= set(dir(pellucid))


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = pellucid.no_such_name  # pyright: ignore[reportAttributeAccessIssue]


def test_the_version_is_the_projects():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert pellucid.__version__ == project["version"]


def test_importing_pellucid_loads_no_foreign_library_but_numpy():
    code = "import sys, pellucid; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"llvmlite", "ml_dtypes", "rich", "typer", "safetensors"}
    assert not heavy & set(done.stdout.split())
