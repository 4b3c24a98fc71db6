"""How does a graph read? One line a node; the text parses back to an equal graph.

    graph(%0: float32[3], %1: float32[3]) {
      %2: float32[3] = mul(%0, %1)
      %3: float32[] = sum(%2) [axes=(0,)]
      return %3
    }

Floating attributes are written so that every bit comes back; a sub-graph stands in its attribute.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from typing import Any

from pellucid.core.dtype import DType, named_dtype
from pellucid.core.error import GraphError, OpError, ParseError
from pellucid.core.shape import Sym, parse_size
from pellucid.ir.build import Builder
from pellucid.ir.graph import Graph, Node, Operation, TensorType, Token, Type, Value

Lookup = Callable[[str], Operation]


def print_graph(graph: Graph, name: str = "graph") -> str:
    """The text of a graph, the same from run to run."""
    return "\n".join(_lines(graph, name, "", {}))


def parse_graph(text: str, lookup: Lookup) -> Graph:
    """The graph that `text` prints; `lookup` finds an op by name. Raises ParseError."""
    parser = _Parser(text, lookup)
    graph = parser.graph()
    parser.end()
    return graph


def node_text(graph: Graph, node: Node) -> str:
    """One node's line, numbered as in its graph."""
    results = graph.results[graph.nodes.index(node)]
    return _node_line(node, results, _names(graph), "", {})


Known = dict[int, str]
"""Texts of types and of attributes by the identity of these: most are those of many nodes."""


def _lines(graph: Graph, name: str, indent: str, known: Known) -> Iterator[str]:
    names = _names(graph)
    inputs = ", ".join([f"{names[v]}: {_type_text(v.type, known)}" for v in graph.inputs])
    yield f"{name}({inputs}) {{"
    for node, results in zip(graph.nodes, graph.results, strict=True):
        yield _node_line(node, results, names, indent + "  ", known)
    yield f"{indent}  return {', '.join([names[v] for v in graph.outputs])}".rstrip()
    yield f"{indent}}}"


def _names(graph: Graph) -> dict[Value, str]:
    return {value: f"%{number}" for value, number in graph.numbering.items()}


def _node_line(
    node: Node, results: tuple[Value, ...], names: dict[Value, str], indent: str, known: Known
) -> str:
    left = ", ".join([f"{names[v]}: {_type_text(v.type, known)}" for v in results])
    operands = ", ".join([names[v] for v in node.operands])
    attrs = known.get(id(node.attrs))
    if attrs is None:
        attrs = ", ".join([f"{name}={_attr_text(value, indent)}" for name, value in node.attrs])
        attrs = known[id(node.attrs)] = f" [{attrs}]" if attrs else ""
    return f"{indent}{left} = {node.op.name}({operands}){attrs}"


def _type_text(type: Type, known: Known) -> str:
    found = known.get(id(type))
    if found is None:
        found = known[id(type)] = str(type)
    return found


def _attr_text(value: Any, indent: str) -> str:
    if isinstance(value, Graph):
        # Texts of its own: a line that is indented otherwise is another one.
        return "\n".join(_lines(value, "graph", indent, {}))
    if isinstance(value, tuple):
        items: list[str] = [_attr_text(item, indent) for item in value]  # pyright: ignore[reportUnknownVariableType]
        return f"({items[0]},)" if len(items) == 1 else f"({', '.join(items)})"
    if isinstance(value, DType):
        return value.name
    if isinstance(value, Sym):
        return f"size {value}"
    if isinstance(value, bytes):
        return f"hex {value.hex() or 'empty'}"
    return repr(value)


_TOKEN = re.compile(
    r"\s*(?:(?P<value>%\d+)|(?P<number>-?(?:inf|nan)\b|-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)"
    r"|(?P<string>'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")|(?P<name>[A-Za-z_]\w*)"
    r"|(?P<mark>[()\[\]{},:=*+-]))"
)


class _Parser:
    """A recursive-descent parser over the tokens of one text."""

    def __init__(self, text: str, lookup: Lookup) -> None:
        self.text, self.lookup, self.at = text, lookup, 0

    def fail(self, expected: str) -> ParseError:
        rest = self.text[self.at :].lstrip()
        line = self.text.count("\n", 0, len(self.text) - len(rest)) + 1
        near = rest[:30].split("\n")[0].rstrip()
        return ParseError(f"parse: expected {expected} at line {line}, got {near!r}")

    def peek(self) -> tuple[str, str] | None:
        match = _TOKEN.match(self.text, self.at)
        if match is None:
            return None
        kind = match.lastgroup
        assert kind is not None, "every alternative is named"
        return kind, match[kind]

    def take(self, kind: str, text: str | None = None) -> str:
        token = self.peek()
        if token is None or token[0] != kind or text not in (None, token[1]):
            raise self.fail(repr(text) if text else f"a {kind}")
        match = _TOKEN.match(self.text, self.at)
        assert match is not None, "peek saw it"
        self.at = match.end()
        return token[1]

    def sees(self, text: str) -> bool:
        token = self.peek()
        return token is not None and token[1] == text

    def accept(self, text: str) -> bool:
        if self.sees(text):
            match = _TOKEN.match(self.text, self.at)
            assert match is not None, "peek saw it"
            self.at = match.end()
            return True
        return False

    def end(self) -> None:
        if self.text[self.at :].strip():
            raise self.fail("the end of the text")

    def graph(self) -> Graph:
        self.take("name")
        self.take("mark", "(")
        builder, env = Builder(), dict[str, Value]()
        while not self.accept(")"):
            name = self.fresh(env)
            self.take("mark", ":")
            env[name] = builder.input(self.type())
            self.accept(",")
        self.take("mark", "{")
        while not self.accept("return"):
            self.node(builder, env)
        outputs: list[Value] = []
        while not self.accept("}"):
            outputs.append(self.use(env))
            self.accept(",")
        return builder.graph(outputs)

    def fresh(self, env: dict[str, Value]) -> str:
        start = self.at
        name = self.take("value")
        if name in env:
            self.at = start
            raise self.fail("a value not defined above")
        return name

    def use(self, env: dict[str, Value]) -> Value:
        start = self.at
        name = self.take("value")
        if name not in env:
            self.at = start
            raise self.fail("a value defined above")
        return env[name]

    def node(self, builder: Builder, env: dict[str, Value]) -> None:
        names, types = list[str](), list[Type]()
        while not self.accept("="):
            names.append(self.fresh(env))
            self.take("mark", ":")
            types.append(self.type())
            self.accept(",")
        start = self.at
        op = self.within(self.lookup, self.take("name"))
        self.take("mark", "(")
        operands = list[Value]()
        while not self.accept(")"):
            operands.append(self.use(env))
            self.accept(",")
        values = self.within(builder.add, op, operands, self.attrs())
        if [value.type for value in values] != types:
            self.at = start
            got = ", ".join(str(value.type) for value in values)
            raise self.fail(f"{op.name} to give {', '.join(map(str, types))}, which gives {got},")
        env.update(zip(names, values, strict=True))

    def attrs(self) -> dict[str, Any]:
        attrs: dict[str, Any] = {}
        if self.accept("["):
            while not self.accept("]"):
                name = self.take("name")
                self.take("mark", "=")
                attrs[name] = self.attr()
                self.accept(",")
        return attrs

    def type(self) -> Type:
        name = self.take("name")
        if name == "token":
            return Token()
        self.take("mark", "[")
        end = self.text.find("]", self.at)
        if end < 0:
            raise self.fail("a type")
        sizes = self.text[self.at : end].split(",")
        shape = tuple(self.within(parse_size, size) for size in sizes if size.strip())
        dtype = self.within(named_dtype, name)
        self.at = end
        self.take("mark", "]")
        return TensorType(dtype, shape)

    def attr(self) -> Any:
        token = self.peek()
        if token is None:
            raise self.fail("an attribute")
        kind, text = token
        if kind == "number":
            self.take(kind)
            return int(text) if re.fullmatch(r"-?\d+", text) else float(text)
        if kind == "string":
            self.take(kind)
            return ast.literal_eval(text)
        if self.accept("("):
            items: list[Any] = []
            while not self.accept(")"):
                items.append(self.attr())
                self.accept(",")
            return tuple(items)
        return self.word(text)

    def word(self, text: str) -> Any:
        if text == "graph":
            return self.graph()
        self.take("name")
        if text in ("True", "False", "None"):
            return {"True": True, "False": False, "None": None}[text]
        if text == "hex":
            return self.pattern(
                r"\s*(empty\b|[0-9a-f]+)", lambda t: b"" if t == "empty" else bytes.fromhex(t)
            )
        if text == "size":
            return self.pattern(r"\s*([\w*+-]+)", parse_size)
        return self.within(named_dtype, text)

    def pattern(self, pattern: str, convert: Callable[[str], Any]) -> Any:
        match = re.compile(pattern).match(self.text, self.at)
        if match is None:
            raise self.fail("a literal")
        value = self.within(convert, match[1])
        self.at = match.end()
        return value

    def within(self, function: Callable[..., Any], *operands: Any) -> Any:
        """What the function gives; its own error becomes one of this line."""
        try:
            return function(*operands)
        except (ValueError, GraphError, OpError) as error:
            line = self.text.count("\n", 0, self.at) + 1
            raise ParseError(f"parse: line {line}: {error}") from error
