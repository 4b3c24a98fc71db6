"""How large is an axis? A size is an int or a `Sym`: a polynomial in named unknown sizes.

A polynomial with whole coefficients is closed under what shapes need (sums, products, exact
quotients) and has a normal form, so two sizes are equal exactly when their texts are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import cast

from pellucid.core.error import OpShapeError

Monomial = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sym:
    """A size that is not known yet: a sum of products of names, such as `2*n + n*m`.

    >>> n = sym("n")
    >>> print(2 * n + 1, "|", n * n - n * n, "|", (4 * n) // 2)
    2*n+1 | 0 | 2*n
    """

    terms: tuple[tuple[Monomial, int], ...]

    def __add__(self, other: Size) -> Size:
        return _normal([*self.terms, *_terms(other)])

    __radd__ = __add__

    def __neg__(self) -> Size:
        return _normal((names, -factor) for names, factor in self.terms)

    def __sub__(self, other: Size) -> Size:
        return self + (-other)

    def __rsub__(self, other: Size) -> Size:
        return -self + other

    def __mul__(self, other: Size) -> Size:
        return _normal((a + b, i * j) for a, i in self.terms for b, j in _terms(other))

    __rmul__ = __mul__

    def __floordiv__(self, other: Size) -> Size:
        return exact_quotient(self, other)

    def __rfloordiv__(self, other: Size) -> Size:
        return exact_quotient(other, self)

    def __str__(self) -> str:
        text = "+".join(_monomial_text(names, factor) for names, factor in self.terms)
        return text.replace("+-", "-")

    def __repr__(self) -> str:
        return f"sym({str(self)!r})"


Size = int | Sym
Shape = tuple[Size, ...]
Axes = tuple[int, ...]


def sym(text: str) -> Sym:
    """The unknown size written in `text`: a name or a polynomial as `str` prints it.

    >>> sym("n*m+2*n") == sym("n") * (sym("m") + 2)
    True
    """
    size = parse_size(text)
    if isinstance(size, int):
        raise OpShapeError(f"sym: expected a name, got the number {size}")
    return size


def parse_size(text: str) -> Size:
    """The size that `text` prints; raises OpShapeError where it is none."""
    terms: list[tuple[Monomial, int]] = []
    compact = re.sub(r"\s*([*+-])\s*", r"\1", text.strip())
    if not re.fullmatch(r"-?[\w*]+([+-][\w*]+)*", compact):
        raise OpShapeError(f"expected a size such as 3, n or 2*n+1, got {text!r}")
    for term in re.findall(r"-?[\w*]+", compact):
        factors = term.lstrip("-").split("*")
        if not all(re.fullmatch(r"\d+|[A-Za-z_]\w*", factor) for factor in factors):
            raise OpShapeError(f"expected a size such as 3, n or 2*n+1, got {text!r}")
        number = math.prod(int(f) for f in factors if f.isdigit())
        names = tuple(f for f in factors if not f.isdigit())
        terms.append((names, -number if term.startswith("-") else number))
    return _normal(terms)


def product(sizes: Iterable[Size]) -> Size:
    """The number of elements of a shape; 1 for the empty shape."""
    total: Size = 1
    for size in sizes:
        total = total * size
    return total


def exact_quotient(size: Size, by: Size) -> Size:
    """`size / by` where it comes out whole; raises OpShapeError where that is not certain."""
    if isinstance(size, int) and isinstance(by, int):
        if by == 0 or size % by:
            raise OpShapeError(f"{size} is not a multiple of {by}")
        return size // by
    if size == by:
        return 1
    divisor = _terms(by)
    if len(divisor) == 1:
        ((names, factor),) = divisor
        quotient = [_divide_monomial(term, names, factor) for term in _terms(size)]
        if all(term is not None for term in quotient):
            return _normal(term for term in quotient if term is not None)
    raise OpShapeError(f"cannot tell whether {size} is a multiple of {by}")


def long_axes(shape: Iterable[Size]) -> list[int]:
    """The axes with another size than 1."""
    return [axis for axis, size in enumerate(shape) if size != 1]


def long_sizes(shape: Iterable[Size]) -> tuple[Size, ...]:
    """The sizes other than 1: shapes that agree in them have their elements in one order.

    >>> long_sizes((2, 1, 3)) == long_sizes((1, 2, 3))
    True
    """
    return tuple(size for size in shape if size != 1)


def evaluate(size: Size, values: Mapping[str, int]) -> int:
    """The number that a size stands for once each name has a value."""
    if isinstance(size, int):
        return size
    return sum(factor * math.prod(values[n] for n in names) for names, factor in size.terms)


def names_of(size: Size) -> tuple[str, ...]:
    """The unknowns in a size, sorted."""
    if isinstance(size, int):
        return ()
    return tuple(sorted({name for names, _ in size.terms for name in names}))


def is_static(shape: Iterable[Size]) -> bool:
    """Whether every size is a plain number."""
    return all(isinstance(size, int) for size in shape)


def static_shape(shape: Iterable[Size], why: str) -> tuple[int, ...]:
    """The shape as plain ints; raises OpShapeError, saying `why`, where one is unknown."""
    sizes = tuple(shape)
    if not is_static(sizes):
        raise OpShapeError(f"{why} needs known sizes, got {shape_text(sizes)}")
    return cast(tuple[int, ...], sizes)


def shape_text(shape: Iterable[Size]) -> str:
    """A shape as it is shown in messages: `(2, n, 3)`."""
    sizes = [str(size) for size in shape]
    return f"({sizes[0]},)" if len(sizes) == 1 else f"({', '.join(sizes)})"


def _terms(size: Size) -> tuple[tuple[Monomial, int], ...]:
    if isinstance(size, Sym):
        return size.terms
    return (((), size),) if size else ()


def _normal(terms: Iterable[tuple[Monomial, int]]) -> Size:
    total: dict[Monomial, int] = {}
    for names, factor in terms:
        key = tuple(sorted(names))
        total[key] = total.get(key, 0) + factor
    # The longest products come first, the plain number last: n*m+2*n+1.
    ordered = sorted(total.items(), key=lambda item: (-len(item[0]), item[0]))
    kept = tuple((names, factor) for names, factor in ordered if factor)
    if all(not names for names, _ in kept):
        return kept[0][1] if kept else 0
    return Sym(kept)


def _monomial_text(names: Monomial, factor: int) -> str:
    if not names:
        return str(factor)
    sign = {1: "", -1: "-"}.get(factor, f"{factor}*")
    return sign + "*".join(names)


def _divide_monomial(
    term: tuple[Monomial, int], names: Monomial, factor: int
) -> tuple[Monomial, int] | None:
    left, number = list(term[0]), term[1]
    for name in names:
        if name not in left:
            return None
        left.remove(name)
    return None if number % factor else (tuple(left), number // factor)
