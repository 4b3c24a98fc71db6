"""What is a model? A Module: an object whose attributes are Parameters, Buffers and other Modules.

    class Head(nn.Module):
        def __init__(self):
            self.dense = nn.Dense(10)
        def forward(self, x):
            return self.dense(x)

Parameters are found by looking at the attributes, lists and dicts included. A Parameter whose shape
depends on the input is made at the first call.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NoReturn, Self

from pellucid.core.dtype import DType
from pellucid.core.error import StateError
from pellucid.nn.initializers import Initializer
from pellucid.tensor.cells import cells_of, parts_of, with_cells
from pellucid.tensor.context import outside_traces
from pellucid.tensor.state import Parameter, Variable
from pellucid.tensor.stateful import Stateful
from pellucid.tensor.tensor import Tensor


class Module(Stateful):
    """The base of models and layers: define `forward`, call the object.

    `training` tells layers such as Dropout how to behave; `train` and `eval` set it everywhere.
    """

    training: bool = True

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes; subclasses define it."""
        raise StateError(f"{type(self).__name__} has no `forward`: define it in the class")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Compute `forward`."""
        return self.forward(*args, **kwargs)

    def variables(self) -> dict[str, Variable]:
        """Every cell by its path, such as `layers.0.kernel`; one that is shared comes once."""
        return cells_of(self)

    def named_parameters(self) -> dict[str, Parameter]:
        """The trainable cells by path."""
        return {path: v for path, v in cells_of(self).items() if isinstance(v, Parameter)}

    def parameters(self) -> list[Parameter]:
        """The trainable cells, in the order of the attributes."""
        return list(self.named_parameters().values())

    def train(self, mode: bool = True) -> Self:
        """Switch this module and all in it to training (or, with False, to evaluation)."""
        for module in modules_of(self):
            if module.training is not mode:
                module.training = mode
        return self

    def eval(self) -> Self:
        """Switch this module and all in it to evaluation."""
        return self.train(False)

    def __getattr__(self, name: str) -> NoReturn:
        # Reached only for names that nothing else knows.
        hint = f"; write {REWRITES[name]}" if name in REWRITES else ""
        kind = type(self).__name__
        raise AttributeError(f"{kind} has no attribute {name!r}{hint}", name=name, obj=self)

    def __repr__(self) -> str:
        """The module as a tree: its settings, its cells with their types, and the modules in it."""
        return "\n".join(_lines("", self, ""))


REWRITES = {
    "add_module": "self.name = module",
    "compile": "@pe.jit over a training step",
    "cpu": "the model itself; `with pe.device(name):` chooses where it runs",
    "cuda": "`with pe.device(name):` around the program",
    "fit": "a loop over batches with a training step under pe.jit",
    "half": "dtype=pe.float16 where the layers are made",
    "predict": "model(x)",
    "register_buffer": "self.name = pe.Buffer(value)",
    "register_parameter": "self.name = pe.Parameter(value)",
    "requires_grad_": "p.trainable = False for p in model.parameters()",
    "state_dict": "nn.split(model)[1]",
    "summary": "print(model)",
    "to": "`with pe.device(name):` around the program, or dtype= where layers are made",
    "trainable_variables": "model.parameters()",
    "weight": "layer.kernel, of shape (features, units)",
    "weights": "model.variables()",
    "zero_grad": "optimizer.zero_grad(); it is not needed, for step() consumes gradients",
}
"""What to write instead, for names that other frameworks' modules have."""


def _lines(label: str, module: Module, indent: str) -> Iterator[str]:
    inner: list[tuple[str, Any]] = []
    settings: list[str] = []
    stack = list(reversed(parts_of(module)))
    while stack:
        name, part = stack.pop()
        if isinstance(part, Module | Variable):
            inner.append((name, part))
        elif isinstance(part, list | tuple | dict):
            stack += [(f"{name}.{key}", item) for key, item in reversed(parts_of(part))]
        elif part is not None:
            settings.append(f"{name}={_setting(part)}")
    yield f"{indent}{label}{type(module).__name__}({', '.join(settings)})"
    for name, part in inner:
        if isinstance(part, Module):
            yield from _lines(f"{name}: ", part, indent + "  ")
        else:
            yield f"{indent}  {name}: {type(part).__name__} {part.type}"


def _setting(value: object) -> str:
    name = getattr(value, "__name__", None)
    return str(name) if callable(value) and name else repr(value)


def new_parameter(
    name: str,
    shape: tuple[int, ...],
    initializer: Initializer,
    fans: tuple[int, int],
    dtype: DType,
) -> Parameter:
    """A Parameter with its first numbers, drawn at once even while a function is traced."""
    with outside_traces():
        return Parameter(initializer(shape, *fans, dtype), name=name)


def modules_of(root: Any) -> list[Module]:
    """A module and every module in its attributes, each once, outer ones first."""
    found: list[Module] = []
    seen: set[int] = set()
    stack: list[Any] = [root]
    while stack:
        value = stack.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Module):
            found.append(value)
        stack += [part for _, part in reversed(parts_of(value))]
    return found


def split(module: Module) -> tuple[Module, dict[str, Tensor]]:
    """The functional view of a module: the module itself, and its cells' Tensors by path.

    >>> from pellucid import nn, asarray
    >>> model = nn.Dense(2)
    >>> y = model(asarray([[1.0]]))
    >>> structure, values = split(model)
    >>> sorted(values)
    ['bias', 'kernel']
    """
    return module, {path: cell.value for path, cell in module.variables().items()}


def merge(structure: Module, values: dict[str, Tensor]) -> Module:
    """A copy of a module with these Tensors in place of its cells; see `split`.

    Raises StateError where the paths do not match.
    """
    cells = structure.variables()
    if set(cells) != set(values):
        missing, extra = sorted(set(cells) - set(values)), sorted(set(values) - set(cells))
        raise StateError(f"merge: missing {missing}, unknown {extra}")
    by_cell = {id(cell): values[path] for path, cell in cells.items()}
    return with_cells(structure, lambda cell: by_cell[id(cell)])
