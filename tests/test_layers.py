"""Does the house stand? Imports go down the floors, never up and never sideways; no modules import
each other in a circle; each foreign library has one home. Every import counts: those inside
functions, those for types only, and names of modules given as strings.
"""

from __future__ import annotations

import ast
import sys
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "pellucid"

FLOORS = (
    ("core",),
    ("ir",),
    ("ops",),
    ("transforms", "passes"),
    ("engines",),
    ("tensor",),
    ("nn", "optim", "data", "metrics"),
    ("models", "quant", "prune", "dist"),
    ("train", "interop"),
    ("serve", "privacy", "automl"),
    ("explain",),
    ("cli",),
)

# The floors inside engines/; every other folder there is an engine and stands above these.
ENGINE_FLOORS = ("base", "loops", "llvm")

# Where a foreign library may be imported. NumPy is the language of the house: everywhere.
HOMES = {
    "llvmlite": ("engines/llvm/",),
    "ml_dtypes": ("core/dtype.py",),
    "safetensors": ("nn/state.py",),
    "rich": ("explain/", "cli/", "train/"),
    "typer": ("cli/",),
}

# The public face, which imports every package; only what looks at everything may import it.
FACE = "pellucid"
ABOVE_THE_FACE = ("explain", "cli")


@dataclass(frozen=True)
class Import:
    """One import: the importing module, what it imports, and where it stands."""

    module: str
    target: str
    line: int
    lazy: bool  # inside a function


@dataclass(frozen=True)
class House:
    """The modules of a package by dotted name, and all their imports."""

    source: Path
    files: dict[str, Path]
    imports: tuple[Import, ...]

    def is_face(self, module: str) -> bool:
        """Whether the module is the `__init__.py` of a package."""
        return self.files[module].name == "__init__.py"

    def within(self) -> list[Import]:
        """The imports of pellucid's own modules."""
        return [found for found in self.imports if found.target in self.files]


def read_house(source: Path) -> House:
    """Read every module under the folder `source`, which is the package `pellucid`."""
    files: dict[str, Path] = {}
    for path in sorted(source.rglob("*.py")):
        parts = path.relative_to(source).with_suffix("").parts
        files[".".join((FACE, *parts)).removesuffix(".__init__")] = path
    imports = [found for module in files for found in imports_of(module, files)]
    return House(source, files, tuple(imports))


def imports_of(module: str, files: dict[str, Path]) -> list[Import]:
    """All imports of one module, at the top, inside functions, for types only, and by name."""
    tree = ast.parse(files[module].read_text(encoding="utf-8"))
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    inner = {id(node) for function in functions for node in ast.walk(function)}
    found: list[Import] = []
    for node in ast.walk(tree):
        targets = targets_of(node, module, files)
        found += [Import(module, target, node.lineno, id(node) in inner) for target in targets]
    return found


def targets_of(node: ast.AST, module: str, files: dict[str, Path]) -> set[str]:
    """The modules that one node of the syntax tree imports; its own ones as full dotted names."""
    if isinstance(node, ast.Import):
        return {nearest_module(alias.name, files) for alias in node.names}
    if isinstance(node, ast.ImportFrom):
        is_face = files[module].name == "__init__.py"
        above = module.split(".")[: len(module.split(".")) - node.level + is_face]
        stem = ".".join([*(above if node.level else []), *([node.module] if node.module else [])])
        return {nearest_module(f"{stem}.{alias.name}", files) for alias in node.names}
    # "pellucid.engines.cpu" as a string is an import by name, wherever importlib is called.
    is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
    if is_text and "." in node.value and node.value in files and node.value != module:
        return {node.value}
    return set()


def nearest_module(name: str, files: dict[str, Path]) -> str:
    """The module that a dotted name lies in: pellucid.core.dtype for pellucid.core.dtype.DType."""
    while name not in files and name.startswith(f"{FACE}."):
        name = name.rpartition(".")[0]
    return name


def package_of(module: str) -> str:
    """`core` for pellucid.core.dtype, and `` for the face."""
    return module.split(".")[1] if "." in module else ""


def rank(module: str) -> tuple[int, int]:
    """How high a module stands: its floor, and inside engines/ its floor there."""
    package = package_of(module)
    floor = next(floor for floor, names in enumerate(FLOORS) if package in names)
    if package != "engines":
        return floor, 0
    parts = module.split(".")
    if len(parts) == 2:  # the face of engines/ knows all of them
        return floor, len(ENGINE_FLOORS) + 1
    inner = ENGINE_FLOORS.index(parts[2]) if parts[2] in ENGINE_FLOORS else len(ENGINE_FLOORS)
    return floor, inner


def unit_of(module: str) -> str:
    """What may import freely within itself: a package, and inside engines/ each part."""
    parts = module.split(".")
    return ".".join(parts[1:3] if package_of(module) == "engines" else parts[1:2])


def may_import(module: str, target: str) -> bool:
    """Whether a module may import another by the floors alone."""
    if module in (FACE, f"{FACE}.__main__"):
        return True
    if target == FACE:
        return package_of(module) in ABOVE_THE_FACE
    return unit_of(module) == unit_of(target) or rank(target) < rank(module)


def wrong_floors(house: House) -> list[str]:
    """Imports that go up or sideways."""
    return [
        f"{found.module}:{found.line} may not import {found.target}"
        for found in house.within()
        if not may_import(found.module, found.target)
    ]


def hidden_imports(house: House) -> list[str]:
    """Own modules imported inside functions; a face may, to load its parts on first use."""
    return [
        f"{found.module}:{found.line} imports {found.target} inside a function"
        for found in house.within()
        if found.lazy and not house.is_face(found.module)
    ]


def circle(house: House) -> list[str]:
    """Some modules that import each other in a circle, or nothing."""
    needs: dict[str, set[str]] = {module: set() for module in house.files if module != FACE}
    for found in house.within():
        # A face loads parts on first use, after both modules are there.
        if FACE not in (found.module, found.target) and not found.lazy:
            needs[found.module].add(found.target)
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def homeless_libraries(house: House) -> list[str]:
    """Imports of foreign libraries outside the one place that wraps them."""
    known = {*sys.stdlib_module_names, FACE, "numpy"}
    wrong: list[str] = []
    for found in house.imports:
        library = found.target.split(".")[0]
        place = house.files[found.module].relative_to(house.source).as_posix()
        if library not in known and not place.startswith(HOMES.get(library, ())):
            wrong.append(f"{place}:{found.line} imports {library}; its home: {HOMES.get(library)}")
    return wrong


def packages(house: House) -> set[str]:
    """The packages right under pellucid, and modules that lie beside them."""
    return {package_of(module) for module in house.files} - {"", "__main__"}


@pytest.fixture(scope="module")
def house() -> House:
    return read_house(SOURCE)


def expect_none(found: list[str]) -> None:
    """Fail with one line for each thing found."""
    assert not found, "\n".join(found)


def test_imports_go_down_the_floors(house: House):
    expect_none(wrong_floors(house))


def test_imports_inside_functions_are_of_foreign_libraries_only(house: House):
    expect_none(hidden_imports(house))


def test_no_modules_import_each_other_in_a_circle(house: House):
    expect_none(circle(house))


def test_each_foreign_library_has_one_home(house: House):
    expect_none(homeless_libraries(house))


def test_each_package_has_a_floor(house: House):
    assert packages(house) <= {name for names in FLOORS for name in names}


# The rules themselves, on a small house that breaks them one at a time.


def built(tmp_path: Path, **texts: str) -> House:
    """A house of the given modules; `core_dtype="..."` is core/dtype.py."""
    source = tmp_path / FACE
    modules = {"core_dtype": "", "ir_graph": "", "engines_base": "", "engines_cpu_runtime": ""}
    for name, text in {**modules, **texts}.items():
        path = source.joinpath(*name.split("_")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        for folder in [path.parent, *path.parent.parents][: len(name.split("_"))]:
            (folder / "__init__.py").touch()
        path.write_text(text, encoding="utf-8")
    return read_house(source)


UPWARD = {
    "at the top": "import pellucid.ir.graph",
    "from": "from pellucid.ir.graph import Graph",
    "relative": "from ..ir import graph",
    "of the package": "from pellucid import ir",
    "lazy": "def f():\n    from pellucid.ir import graph",
    "for types only": "if TYPE_CHECKING:\n    from pellucid.ir.graph import Graph",
    "by name": "importlib.import_module('pellucid.ir.graph')",
    "of the face": "import pellucid as pe",
}


@pytest.mark.parametrize("text", UPWARD.values(), ids=UPWARD.keys())
def test_an_import_upward_is_found(tmp_path: Path, text: str):
    assert wrong_floors(built(tmp_path, core_dtype=text))


def test_imports_downward_and_within_a_package_are_fine(tmp_path: Path):
    house = built(
        tmp_path,
        ir_graph="from pellucid.core.dtype import DType\nfrom .text import show",
        ir_text="import pellucid.core.dtype",
        cli_tour="import pellucid as pe",
    )
    assert not wrong_floors(house)


def test_an_import_sideways_is_found(tmp_path: Path):
    house = built(tmp_path, passes_fuse="from pellucid.transforms import vjp", transforms_vjp="")
    assert wrong_floors(house)


def test_an_engine_may_not_import_another(tmp_path: Path):
    house = built(tmp_path, engines_cuda_rules="from pellucid.engines.cpu import runtime")
    assert wrong_floors(house)


def test_the_base_of_the_engines_knows_none_of_them(tmp_path: Path):
    house = built(tmp_path, engines_base="NAMES = {'cpu': 'pellucid.engines.cpu'}")
    assert wrong_floors(house)


def test_the_parts_of_an_engine_import_downward(tmp_path: Path):
    house = built(
        tmp_path,
        engines_llvm_emit="from pellucid.engines.loops import nest",
        engines_loops_nest="from pellucid.engines import base",
        engines_cpu_runtime="from pellucid.engines.llvm import emit\nimport pellucid.engines.base",
    )
    assert not wrong_floors(house)


def test_an_own_module_imported_in_a_function_is_found(tmp_path: Path):
    house = built(tmp_path, ir_graph="def f():\n    from pellucid.core import dtype")
    assert hidden_imports(house)


def test_a_circle_is_found(tmp_path: Path):
    house = built(
        tmp_path,
        ir_graph="from pellucid.ir.text import show",
        ir_text="if TYPE_CHECKING:\n    from pellucid.ir.graph import Graph",
    )
    assert set(circle(house)) == {"pellucid.ir.graph", "pellucid.ir.text"}


@pytest.mark.parametrize("library", ["llvmlite.binding", "rich", "pandas"])
def test_a_foreign_library_outside_its_home_is_found(tmp_path: Path, library: str):
    assert homeless_libraries(built(tmp_path, core_dtype=f"def f():\n    import {library}"))


def test_a_package_without_a_floor_is_found(tmp_path: Path):
    assert "utils" in packages(built(tmp_path, utils_misc=""))
