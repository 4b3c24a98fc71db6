"""The mathematical functions, element by element, under NumPy's and the Array API's names.

Integers become float32 where the result has fractions; what rounds leaves them as they are. In
float32 the functions are within 2 units in the last place, in float64 within 4.
"""

from __future__ import annotations

from typing import Any

from pellucid.core.dtype import DType, as_dtype, bool_, named_dtype
from pellucid.core.error import OpTypeError
from pellucid.core.source import at_line, user_source
from pellucid.ops import bits, elementary, rounding, special
from pellucid.ops.define import Op
from pellucid.tensor import arithmetic
from pellucid.tensor.arithmetic import (
    absolute,
    add,
    binary,
    divide,
    equal,
    exp,
    floating,
    less,
    logical_and,
    logical_not,
    logical_or,
    maximum,
    minimum,
    multiply,
    negative,
    not_equal,
    sqrt,
    subtract,
    together,
    where,
)
from pellucid.tensor.dispatch import apply
from pellucid.tensor.state import as_tensor
from pellucid.tensor.tensor import Operand, Tensor


def pow(x1: Operand, x2: Operand, /) -> Tensor:
    """x1 to the power of x2.

    For a Python number that is whole, from -64 to 64, a product of squares; so for integers too.
    A power of a negative number that is not whole is NaN. Raises OpTypeError for two tensors of
    integers.

    >>> print(pow(as_tensor([1.0, 2.0, 3.0]), as_tensor([2.0, 0.5, -1.0])))
    [1.         1.4142135  0.33333334]
    """
    if _is_short(x2) and not isinstance(x1, int | float):
        return arithmetic.pow(x1, x2)
    lhs, rhs = together(elementary.pow_, x1, x2)
    if not lhs.dtype.is_floating:
        raise OpTypeError(
            f"pow: expected a floating base or exponent, or a Python number as the exponent, got "
            f"{lhs.dtype}{at_line(user_source())}\n  write pe.astype(x, pe.float64) ** y"
        )
    return apply(elementary.pow_, (lhs, rhs))


def exp2(x: Operand, /) -> Tensor:
    """2 to the power of x; exact where x is whole.

    >>> print(exp2(as_tensor([-1.0, 0.0, 10.0])))
    [5.000e-01 1.000e+00 1.024e+03]
    """
    return _floating(elementary.exp2, x)


def expm1(x: Operand, /) -> Tensor:
    """exp(x) - 1, exact near 0 too.

    >>> print(expm1(as_tensor([0.0, 1e-8])))
    [0.e+00 1.e-08]
    """
    return _floating(elementary.expm1, x)


def log1p(x: Operand, /) -> Tensor:
    """log(1 + x), exact near 0 too; -inf at -1, NaN below.

    >>> print(log1p(as_tensor([0.0, 1e-8])))
    [0.e+00 1.e-08]
    """
    return _floating(elementary.log1p, x)


def log2(x: Operand, /) -> Tensor:
    """The logarithm to base 2; -inf at 0, NaN below.

    >>> print(log2(as_tensor([1.0, 8.0])))
    [0. 3.]
    """
    return _floating(elementary.log2, x)


def log10(x: Operand, /) -> Tensor:
    """The logarithm to base 10; -inf at 0, NaN below.

    >>> print(log10(as_tensor([1.0, 1000.0])))
    [0. 3.]
    """
    return _floating(elementary.log10, x)


def logaddexp(x1: Operand, x2: Operand, /) -> Tensor:
    """log(exp(x1) + exp(x2)), without overflow.

    >>> print(logaddexp(1000.0, 1000.0))
    1000.6932
    """
    lhs, rhs = _floating_pair(elementary.log1p, x1, x2)
    larger = maximum(lhs, rhs)
    # Equal infinities have no difference.
    apart = where(equal(lhs, rhs), 0.0, absolute(subtract(lhs, rhs)))
    return add(larger, log1p(exp(negative(apart))))


def rsqrt(x: Operand, /) -> Tensor:
    """1 / sqrt(x); ±inf at ±0, NaN below.

    >>> print(rsqrt(as_tensor([4.0, 0.25])))
    [0.5 2. ]
    """
    return _floating(elementary.rsqrt, x)


def cbrt(x: Operand, /) -> Tensor:
    """The cube root, of negative numbers too.

    >>> print(cbrt(as_tensor([27.0, -8.0])))
    [ 3. -2.]
    """
    return _floating(elementary.cbrt, x)


def hypot(x1: Operand, x2: Operand, /) -> Tensor:
    """The length of the vector (x1, x2), without overflow; inf where one is infinite.

    >>> print(hypot(3e30, 4e30))
    5e+30
    """
    lhs, rhs = _floating_pair(elementary.atan2, x1, x2)
    sizes = absolute(lhs), absolute(rhs)
    large, small = maximum(*sizes), minimum(*sizes)
    usual = logical_and(less(0.0, large), isfinite(large))
    ratio = divide(small, where(usual, large, 1.0))
    length = multiply(large, sqrt(add(multiply(ratio, ratio), 1.0)))
    # At 0 the larger one is the length; at infinity it is infinite, beside a NaN too.
    infinite = logical_or(isinf(lhs), isinf(rhs))
    return where(infinite, float("inf"), where(usual, length, large))


def sin(x: Operand, /) -> Tensor:
    """The sine of an angle in radians, however large.

    >>> print(sin(as_tensor([0.0, 1.0, 1e6])))
    [ 0.          0.84147096 -0.3499935 ]
    """
    return _floating(elementary.sin, x)


def cos(x: Operand, /) -> Tensor:
    """The cosine of an angle in radians, however large.

    >>> print(cos(as_tensor([0.0, 1.0])))
    [1.        0.5403023]
    """
    return _floating(elementary.cos, x)


def tan(x: Operand, /) -> Tensor:
    """The tangent of an angle in radians, however large.

    >>> print(tan(as_tensor([0.0, 1.0])))
    [0.        1.5574077]
    """
    return _floating(elementary.tan, x)


def asin(x: Operand, /) -> Tensor:
    """The angle from -pi / 2 to pi / 2 with this sine; NaN beyond ±1.

    >>> print(asin(as_tensor([0.0, 1.0])))
    [0.        1.5707964]
    """
    return _floating(elementary.asin, x)


def acos(x: Operand, /) -> Tensor:
    """The angle from 0 to pi with this cosine; NaN beyond ±1.

    >>> print(acos(as_tensor([1.0, -1.0])))
    [0.        3.1415927]
    """
    return _floating(elementary.acos, x)


def atan(x: Operand, /) -> Tensor:
    """The angle from -pi / 2 to pi / 2 with this tangent.

    >>> print(atan(as_tensor([0.0, 1.0])))
    [0.        0.7853982]
    """
    return _floating(elementary.atan, x)


def atan2(x1: Operand, x2: Operand, /) -> Tensor:
    """The angle of the point with ordinate x1 and abscissa x2, from -pi to pi.

    >>> print(atan2(as_tensor([1.0, 1.0]), as_tensor([0.0, -1.0])))
    [1.5707964 2.3561945]
    """
    return apply(elementary.atan2, _floating_pair(elementary.atan2, x1, x2))


def sinh(x: Operand, /) -> Tensor:
    """The hyperbolic sine.

    >>> print(sinh(as_tensor([0.0, 1.0])))
    [0.        1.1752012]
    """
    return _floating(elementary.sinh, x)


def cosh(x: Operand, /) -> Tensor:
    """The hyperbolic cosine.

    >>> print(cosh(as_tensor([0.0, 1.0])))
    [1.        1.5430807]
    """
    return _floating(elementary.cosh, x)


def asinh(x: Operand, /) -> Tensor:
    """The inverse of sinh.

    >>> print(asinh(as_tensor([0.0, 1.0])))
    [0.        0.8813736]
    """
    return _floating(elementary.asinh, x)


def acosh(x: Operand, /) -> Tensor:
    """The inverse of cosh, from 0 on; NaN below 1.

    >>> print(acosh(as_tensor([1.0, 2.0])))
    [0.       1.316958]
    """
    return _floating(elementary.acosh, x)


def atanh(x: Operand, /) -> Tensor:
    """The inverse of tanh; ±inf at ±1, NaN beyond.

    >>> print(atanh(as_tensor([0.0, 0.5])))
    [0.         0.54930615]
    """
    return _floating(elementary.atanh, x)


def erf(x: Operand, /) -> Tensor:
    """The error function, 2 / sqrt(pi) times the integral of exp(-t²) from 0 to x.

    >>> print(erf(as_tensor([0.0, 1.0])))
    [0.        0.8427008]
    """
    return _floating(special.erf, x)


def erfc(x: Operand, /) -> Tensor:
    """1 - erf(x), exact in the tail too.

    >>> print(erfc(as_tensor([0.0, 5.0])))
    [1.0000000e+00 1.5374598e-12]
    """
    return _floating(special.erfc, x)


def lgamma(x: Operand, /) -> Tensor:
    """The logarithm of |gamma(x)|; inf at 0 and at negative whole numbers.

    Near its zeros on the negative side (each float64) the error is at most 4e-15.

    >>> print(lgamma(as_tensor([1.0, 5.0])))
    [0.        3.1780539]
    """
    return _floating(special.lgamma, x)


def digamma(x: Operand, /) -> Tensor:
    """The derivative of lgamma; NaN at negative whole numbers.

    >>> print(digamma(as_tensor([1.0, 2.0])))
    [-0.5772157   0.42278433]
    """
    return _floating(special.digamma, x)


def polygamma(order: int, x: Operand, /) -> Tensor:
    """The derivative of digamma of some order, from 0 (digamma itself) to 100.

    >>> print(polygamma(1, as_tensor([1.0, 2.0])))
    [1.644934   0.64493406]
    """
    if order == 0:
        return digamma(x)
    return apply(special.polygamma, (floating(as_tensor(x)),), (("order", order),))


def floor(x: Operand, /) -> Tensor:
    """The largest whole number that is not above x.

    >>> print(floor(as_tensor([1.5, -1.5])))
    [ 1. -2.]
    """
    return _whole(rounding.floor, x)


def ceil(x: Operand, /) -> Tensor:
    """The smallest whole number that is not below x.

    >>> print(ceil(as_tensor([1.5, -1.5])))
    [ 2. -1.]
    """
    return _whole(rounding.ceil, x)


def trunc(x: Operand, /) -> Tensor:
    """The whole number next to x on the side of 0.

    >>> print(trunc(as_tensor([1.5, -1.5])))
    [ 1. -1.]
    """
    return _whole(rounding.trunc, x)


def round(x: Operand, /) -> Tensor:
    """The nearest whole number, ties to the even one.

    >>> print(round(as_tensor([0.5, 1.5, 2.6])))
    [0. 2. 3.]
    """
    return _whole(rounding.round_, x)


def sign(x: Operand, /) -> Tensor:
    """-1, 0 or 1, as x is negative, zero or positive; NaN stays NaN. Its derivative is 0.

    >>> print(sign(as_tensor([-2.0, 0.0, 3.0])))
    [-1.  0.  1.]
    """
    return apply(rounding.sign, (as_tensor(x),))


def floor_divide(x1: Operand, x2: Operand, /) -> Tensor:
    """x1 / x2 rounded down, of the exact quotient; integers divided by 0 give 0.

    >>> print(floor_divide(as_tensor([7, -7]), 2))
    [ 3 -4]
    """
    return binary(rounding.floor_divide, x1, x2)


def remainder(x1: Operand, x2: Operand, /) -> Tensor:
    """x1 - x2 * floor_divide(x1, x2), with the sign of x2; integers modulo 0 give 0.

    >>> print(remainder(as_tensor([7, -7]), 3))
    [1 2]
    """
    return binary(rounding.remainder, x1, x2)


def isnan(x: Operand, /) -> Tensor:
    """Whether x is not a number.

    >>> print(isnan(as_tensor([1.0, float("nan")])))
    [False  True]
    """
    return _floating(bits.isnan, x)


def isinf(x: Operand, /) -> Tensor:
    """Whether x is infinite, of either sign.

    >>> print(isinf(as_tensor([1.0, float("-inf")])))
    [False  True]
    """
    return _floating(bits.isinf, x)


def isfinite(x: Operand, /) -> Tensor:
    """Whether x is neither infinite nor NaN.

    >>> print(isfinite(as_tensor([1.0, float("inf")])))
    [ True False]
    """
    return _floating(bits.isfinite, x)


def signbit(x: Operand, /) -> Tensor:
    """Whether the sign is negative, of -0.0 and NaN too.

    >>> print(signbit(as_tensor([1.0, -0.0])))
    [False  True]
    """
    tensor = floating(as_tensor(x))
    return less(bitcast(tensor, _integer_like(tensor.dtype)), 0)


def copysign(x1: Operand, x2: Operand, /) -> Tensor:
    """x1 with the sign of x2.

    >>> print(copysign(as_tensor([1.0, -2.0]), -0.0))
    [-1. -2.]
    """
    lhs, rhs = _floating_pair(bits.nextafter, x1, x2)
    return where(not_equal(signbit(lhs), signbit(rhs)), negative(lhs), lhs)


def nextafter(x1: Operand, x2: Operand, /) -> Tensor:
    """The number of the dtype that is next to x1 in the direction of x2.

    >>> print(nextafter(as_tensor(1.0), 2.0) - 1.0)
    1.1920929e-07
    """
    return apply(bits.nextafter, _floating_pair(bits.nextafter, x1, x2))


def bitcast(x: Operand, dtype: Any, /) -> Tensor:
    """The bits of x read as a number of another dtype of the same size.

    >>> print(bitcast(as_tensor(1.0), "int32"))
    1065353216
    """
    tensor, target = as_tensor(x), as_dtype(dtype)
    if tensor.dtype is target:
        return tensor
    return apply(bits.bitcast, (tensor,), (("dtype", target),))


def bitwise_invert(x: Operand, /) -> Tensor:
    """Each bit flipped; for bool, whether x is false.

    >>> print(bitwise_invert(as_tensor([0, 5])))
    [-1 -6]
    """
    tensor = as_tensor(x)
    return logical_not(tensor) if tensor.dtype is bool_ else apply(bits.bit_not, (tensor,))


def bitwise_left_shift(x1: Operand, x2: Operand, /) -> Tensor:
    """The bits of an integer moved up by x2 places; from its width on 0.

    >>> print(bitwise_left_shift(as_tensor([1, 3]), 4))
    [16 48]
    """
    return binary(bits.shift_left, x1, x2)


def bitwise_right_shift(x1: Operand, x2: Operand, /) -> Tensor:
    """The bits of an integer moved down by x2 places, its sign coming in from above.

    >>> print(bitwise_right_shift(as_tensor([-16, 48]), 4))
    [-1  3]
    """
    return binary(bits.shift_right_arithmetic, x1, x2)


def _floating(op: Op, x: Operand) -> Tensor:
    return apply(op, (floating(as_tensor(x)),))


def _floating_pair(op: Op, x1: Operand, x2: Operand) -> tuple[Tensor, Tensor]:
    lhs, rhs = together(op, x1, x2)
    return floating(lhs), floating(rhs)


def _whole(op: Op, x: Operand) -> Tensor:
    tensor = as_tensor(x)
    return tensor if tensor.dtype.is_integer else apply(op, (tensor,))


def _is_short(exponent: Operand) -> bool:
    """Whether a power is a few products: for these they are exact more often, and cheaper."""
    if type(exponent) not in (int, float) or not isinstance(exponent, int | float):
        return False
    return exponent in (0.5, -0.5) or (exponent == int(exponent) and -64 <= exponent <= 64)


def _integer_like(dtype: DType) -> DType:
    return named_dtype(f"int{dtype.bits}")
