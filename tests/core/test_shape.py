"""Do sizes with unknowns compute like numbers, and print so that they parse back?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.core.error import OpShapeError
from pellucid.core.shape import (
    Size,
    evaluate,
    exact_quotient,
    is_static,
    names_of,
    parse_size,
    product,
    shape_text,
    static_shape,
    sym,
)

n, m = sym("n"), sym("m")

sizes = st.recursive(
    st.one_of(st.integers(0, 5), st.sampled_from([n, m, sym("batch_2")])),
    lambda inner: st.one_of(
        st.builds(lambda a, b: a + b, inner, inner),
        st.builds(lambda a, b: a - b, inner, inner),
        st.builds(lambda a, b: a * b, inner, inner),
    ),
    max_leaves=6,
)
VALUES = {"n": 7, "m": 3, "batch_2": 5}


@given(sizes, sizes)
def test_arithmetic_commutes_with_evaluating(a: Size, b: Size) -> None:
    x, y = evaluate(a, VALUES), evaluate(b, VALUES)
    assert evaluate(a + b, VALUES) == x + y
    assert evaluate(a - b, VALUES) == x - y
    assert evaluate(a * b, VALUES) == x * y


@given(sizes, sizes)
def test_a_product_can_be_divided_again(a: Size, b: Size) -> None:
    one_term = isinstance(b, int) or len(b.terms) == 1
    if b != 0 and one_term:
        assert exact_quotient(a * b, b) == a


@given(sizes)
def test_text_parses_back(size: Size) -> None:
    assert parse_size(str(size)) == size


@given(sizes, sizes)
def test_equal_sizes_have_equal_texts_and_hashes(a: Size, b: Size) -> None:
    assert (a == b) == (str(a) == str(b))
    assert hash(a + b) == hash(b + a)


def test_a_size_without_unknowns_is_a_number() -> None:
    assert n - n == 0
    assert type(n - n + 3) is int
    assert (2 * n) // n == 2
    assert (6 * n * m) // (3 * m) == 2 * n


@pytest.mark.parametrize("text", ["", "3 4", "n**2", "n/2", "+", "2n", "n+-", "n.m", "3.5", "*n"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(OpShapeError, match="expected a size such as 3, n or"):
        parse_size(text)


@pytest.mark.parametrize(("size", "by"), [(7, 2), (7, 0), (n, 2), (n + 1, n), (n, m), (4, n)])
def test_a_division_that_may_leave_a_rest_is_refused(size: Size, by: Size) -> None:
    with pytest.raises(OpShapeError, match="multiple of"):
        exact_quotient(size, by)


def test_shapes_read_as_tuples() -> None:
    assert shape_text(()) == "()"
    assert shape_text((3,)) == "(3,)"
    assert shape_text((2, n + 1)) == "(2, n+1)"


def test_a_product_of_nothing_is_one() -> None:
    assert product(()) == 1
    assert product((2, n, 3)) == 6 * n


def test_names_are_sorted_and_single() -> None:
    assert names_of(n * m + m) == ("m", "n")
    assert names_of(3) == ()


def test_static_shapes_are_told_apart() -> None:
    assert is_static((1, 2))
    assert not is_static((1, n))
    with pytest.raises(OpShapeError, match=r"a kernel needs known sizes, got \(1, n\)"):
        static_shape((1, n), "a kernel")


def test_a_number_is_no_unknown() -> None:
    with pytest.raises(OpShapeError, match="expected a name, got the number 3"):
        sym("3")
