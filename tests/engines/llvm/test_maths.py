"""Do the functions of one number keep their cards' word on a sample of all float32?

The sample is spread over every exponent, and compared by the code that can try them all.
"""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import exhaust_float32
from pellucid.core.dtype import float32, float64
from pellucid.engines.llvm import maths
from pellucid.engines.llvm.jit import assembly
from pellucid.engines.llvm.target import AVX2, AVX512, ISAS, SSE2, Isa, host_isa
from tests.engines.llvm.running import elementwise_text

# The widest of each class: where narrower ones must give its bits, they are run as well.
CLASSES = {
    isa.bit_class: isa for isa in reversed(ISAS) if isa.vector_bits <= host_isa().vector_bits
}


@pytest.mark.parametrize("isa", CLASSES.values(), ids=lambda isa: isa.name)
@pytest.mark.parametrize("name", exhaust_float32.functions())
def test_float32_results_are_within_their_ulp_all_over(name: str, isa: Isa) -> None:
    op, attrs = exhaust_float32.parts(name)
    sweep = exhaust_float32.Sweep(name, isa.name, "", inputs=1 << 14)
    with np.errstate(all="ignore"):
        exhaust_float32.exhaust(sweep, isa, lambda sweep: None)
    assert sweep.worst <= op.ulps(float32, attrs), f"at {sweep.at}"


@pytest.mark.parametrize("name", exhaust_float32.functions())
def test_cards_allow_two_ulp_in_float32_and_four_in_float64(name: str) -> None:
    op, attrs = exhaust_float32.parts(name)
    assert op.ulps(float32, attrs) <= 2
    # The error of a polygamma function grows with its order.
    assert op.ulps(float64, attrs) <= 4 + 2 * attrs.get("order", 0)


def test_the_page_of_what_was_measured_shows_no_error_above_a_card() -> None:
    lines = exhaust_float32.PAGE.read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if "| avx" in line]
    assert {row[0] for row in rows} <= set(exhaust_float32.functions())
    for name, _, worst, _, bound, _, _ in rows:
        op, attrs = exhaust_float32.parts(name)
        assert float(bound) == op.ulps(float32, attrs), f"{name}: the page has another bound"
        assert float(worst) <= float(bound), name


def test_multiply_add_is_fused_by_bit_class_alone() -> None:
    def emitted(isa: Isa) -> str:
        return assembly(elementwise_text(maths.exp, isa, np.float32, np.float32, 8), isa)

    assert "vfmadd" in emitted(AVX2)
    assert "vfmadd" in emitted(AVX512)
    assert "fmadd" not in emitted(SSE2)


def test_what_is_off_is_found() -> None:
    true = np.array([1.0, 0.0, -0.0, np.inf, np.nan, 2.0**-149, 1e39])
    got = np.array([1 + 2.0**-23, 0.0, 0.0, 3e38, 1.0, 0.0, np.finfo(np.float32).max], np.float32)
    with np.errstate(over="ignore"):
        far = exhaust_float32.ulps(got, true)
    assert far.tolist() == [1, 0, np.inf, np.inf, np.inf, 1, np.inf]
