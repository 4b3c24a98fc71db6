"""What is a program? A `Graph`: inputs, nodes in topological order, outputs. It never changes.

A `Value` is one typed result of a node, or an input. Values and nodes are compared by identity;
graphs by structure, that is by the numbering of their values, so that two traces of one function
are equal and share code. Each node remembers the user's line, outside equality and hash.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, cast

from pellucid.core.dtype import DType
from pellucid.core.shape import Shape, Size, product, shape_text
from pellucid.core.source import Source


@dataclass(frozen=True, slots=True)
class TensorType:
    """The type of a tensor value: dtype, shape and (later) how it is sharded over a mesh.

    >>> from pellucid.core.dtype import float32
    >>> print(TensorType(float32, (2, 3)))
    float32[2, 3]
    """

    dtype: DType
    shape: Shape
    sharding: None = None

    @property
    def rank(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> Size:
        """The number of elements."""
        return product(self.shape)

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"

    def message(self) -> str:
        """The type as it is shown in errors: `float32 (2, 3)`."""
        return f"{self.dtype} {shape_text(self.shape)}"


@dataclass(frozen=True, slots=True)
class Token:
    """The type of a value that only orders effects."""

    def __str__(self) -> str:
        return "token"


Type = TensorType | Token


class Operation(Protocol):
    """What the IR asks of an op: a name, and the types of its results."""

    @property
    def name(self) -> str:
        """The name by which the op is printed and looked up."""
        ...

    def result_types(
        self, operands: tuple[Type, ...], attrs: Mapping[str, Any]
    ) -> tuple[Type, ...]:
        """The result types for these operands; raises OpError where the op cannot take them."""
        ...


Attrs = tuple[tuple[str, Any], ...]


@dataclass(frozen=True, slots=True, eq=False, init=False)
class Node:
    """One application of an op. `attrs` are sorted pairs of a name and a hashable value."""

    op: Operation
    # Not in the repr: each operand would show its node, and so on, along every path of the graph.
    operands: tuple[Value, ...] = field(repr=False)
    attrs: Attrs
    types: tuple[Type, ...]
    source: Source | None = None

    def __init__(
        self,
        op: Operation,
        operands: tuple[Value, ...],
        attrs: Attrs,
        types: tuple[Type, ...],
        source: Source | None = None,
    ) -> None:
        _set_op(self, op)
        _set_operands(self, operands)
        _set_attrs(self, attrs)
        _set_types(self, types)
        _set_source(self, source)

    def attr(self, name: str) -> Any:
        """The attribute called `name`."""
        return dict(self.attrs)[name]


@dataclass(frozen=True, slots=True, eq=False, init=False)
class Value:
    """Result `index` of `node`, or a graph input where `node` is None."""

    type: Type
    node: Node | None = None
    index: int = 0

    def __init__(self, type: Type, node: Node | None = None, index: int = 0) -> None:
        _set_type(self, type)
        _set_node(self, node)
        _set_index(self, index)

    @property
    def tensor(self) -> TensorType:
        """The type, for a value that is known to be a tensor."""
        assert isinstance(self.type, TensorType), "a token where a tensor belongs"
        return self.type

    @property
    def shape(self) -> Shape:
        """The shape of a tensor value."""
        return self.tensor.shape

    @property
    def dtype(self) -> DType:
        """The dtype of a tensor value."""
        return self.tensor.dtype


def _setters(kind: Any, *names: str) -> list[Callable[[object, object], None]]:
    """What writes the slots of a frozen class, in half the time that its own `__init__` takes.

    Programs have thousands of nodes and values, each of which several passes make anew.
    """
    return [getattr(kind, name).__set__ for name in names]


_set_op, _set_operands, _set_attrs, _set_types, _set_source = _setters(
    Node, "op", "operands", "attrs", "types", "source"
)
_set_type, _set_node, _set_index = _setters(Value, "type", "node", "index")


@dataclass(frozen=True, eq=False)
class Graph:
    """Inputs, nodes in topological order, outputs. `results[i]` are the values of `nodes[i]`."""

    inputs: tuple[Value, ...]
    nodes: tuple[Node, ...]
    results: tuple[tuple[Value, ...], ...]
    outputs: tuple[Value, ...]

    @cached_property
    def numbering(self) -> dict[Value, int]:
        """Each value's number: inputs first, then results in order."""
        values = [*self.inputs, *(value for values in self.results for value in values)]
        return {value: number for number, value in enumerate(values)}

    @cached_property
    def structure(self) -> tuple[Any, ...]:
        """Everything that equality looks at, as one hashable value."""
        number = self.numbering
        nodes = tuple(
            (node.op.name, tuple(number[v] for v in node.operands), node.attrs, node.types)
            for node in self.nodes
        )
        types = tuple(value.type for value in self.inputs)
        return types, nodes, tuple(number[v] for v in self.outputs)

    @cached_property
    def uses(self) -> dict[Value, int]:
        """How often each value is an operand or an output."""
        counts = dict.fromkeys(self.numbering, 0)
        for node in self.nodes:
            for value in node.operands:
                counts[value] += 1
        for value in self.outputs:
            counts[value] += 1
        return counts

    @cached_property
    def _hash(self) -> int:
        return hash(self.structure)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, Graph) and self.structure == other.structure

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"<Graph {len(self.inputs)} inputs, {len(self.nodes)} nodes>"


def freeze_attrs(attrs: Mapping[str, Any]) -> Attrs:
    """Attributes in the one form in which nodes keep them: sorted, lists made tuples."""
    return tuple(sorted([(name, _freeze(value)) for name, value in attrs.items()]))


def count_ops(graph: Graph) -> dict[str, int]:
    """How many nodes of each op a graph has, sub-graphs included."""
    counts: dict[str, int] = {}
    for node in walk(graph):
        counts[node.op.name] = counts.get(node.op.name, 0) + 1
    return dict(sorted(counts.items()))


def walk(graph: Graph) -> Iterable[Node]:
    """Every node of a graph and of the graphs in its attributes, outer ones first."""
    for node in graph.nodes:
        yield node
        for _, value in node.attrs:
            if isinstance(value, Graph):
                yield from walk(value)


def _freeze(value: Any) -> Any:
    if type(value) is tuple and _LEAVES.issuperset(map(type, cast("tuple[Any, ...]", value))):
        return cast("tuple[Any, ...]", value)
    if isinstance(value, list | tuple):
        return tuple(_freeze(item) for item in value)  # pyright: ignore[reportUnknownVariableType]
    return value


_LEAVES = frozenset((bool, int, float, str))
