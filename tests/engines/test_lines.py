"""Are convolutions in groups or of few features, made line by line, those of any other kernel?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import pellucid as pe
from pellucid.core.dtype import DType, bfloat16, float16, float32, float64
from pellucid.engines import find_engine
from pellucid.engines.cpu.rules import body_of, realise
from pellucid.engines.cpu.staging import contraction_of
from pellucid.engines.llvm.contract import plan_contraction, schedule_contraction
from pellucid.engines.llvm.target import AVX2, AVX512, Isa
from pellucid.engines.llvm.variants import fits, task_variants, tile_variants
from pellucid.engines.loops.ir import Kernel
from pellucid.engines.loops.roles import has_contraction
from pellucid.ir.build import building
from pellucid.ir.graph import Graph, TensorType
from pellucid.ops.control import evaluate
from pellucid.ops.convolution import convolution, plain_attrs
from pellucid.ops.elementwise import add, maximum
from pellucid.ops.movement import broadcast, full_like
from pellucid.passes.pipeline import optimize
from pellucid.transforms import vjp
from tests.engines.executing import run_compiled, run_launched
from tests.graphs import same_bits

SAME: dict[str, Any] = plain_attrs(2) | {"padding": ((1, 1), (1, 1))}
Shape = tuple[int, ...]
FORMS: dict[str, tuple[dict[str, Any], Shape, Shape]] = {
    "4 channels make 4": (SAME | {"feature_groups": 6}, (2, 7, 9, 24), (3, 3, 4, 24)),
    "8 make 8, in steps": (
        SAME | {"strides": (2, 1), "padding": ((2, 0), (0, 3)), "feature_groups": 3},
        (2, 9, 8, 24),
        (3, 3, 8, 24),
    ),
    "16 make 16, 3 groups": (SAME | {"feature_groups": 3}, (1, 6, 14, 48), (3, 3, 16, 48)),
    "16 make 16, long lines": (SAME | {"feature_groups": 2}, (1, 5, 30, 32), (3, 3, 16, 32)),
    "3 make 5, dilated": (
        SAME | {"rhs_dilation": (1, 2), "feature_groups": 3},
        (2, 8, 7, 9),
        (3, 3, 3, 15),
    ),
    "1 makes 2": (SAME | {"feature_groups": 5}, (2, 6, 8, 5), (3, 3, 1, 10)),
    "6 make 2": (plain_attrs(2) | {"feature_groups": 4}, (1, 6, 7, 24), (2, 3, 6, 8)),
    "one axis": (
        plain_attrs(1) | {"padding": ((3, 1),), "feature_groups": 4},
        (3, 20, 16),
        (4, 4, 16),
    ),
    "three axes": (
        plain_attrs(3) | {"padding": ((1, 0), (1, 1), (0, 2)), "feature_groups": 2},
        (1, 4, 5, 6, 8),
        (2, 3, 3, 4, 8),
    ),
    "a long window": (
        plain_attrs(2) | {"padding": ((0, 0), (4, 4)), "feature_groups": 4},
        (1, 3, 20, 16),
        (1, 9, 4, 16),
    ),
    "padding across lines": (
        plain_attrs(2) | {"padding": ((1, 1), (0, 0)), "feature_groups": 2},
        (2, 5, 6, 8),
        (3, 1, 4, 8),
    ),
    "depthwise": (SAME | {"feature_groups": 37}, (1, 5, 9, 37), (3, 3, 1, 37)),
    "depthwise, in steps": (
        SAME | {"strides": (2, 2), "feature_groups": 40},
        (2, 9, 11, 40),
        (3, 3, 1, 40),
    ),
    "depthwise, gaps": (
        plain_attrs(2)
        | {"lhs_dilation": (2, 2), "padding": ((1, 2), (2, 1)), "flip": True}
        | {"feature_groups": 20},
        (1, 5, 6, 20),
        (3, 3, 1, 20),
    ),
    "5 make 1": (SAME, (2, 7, 19, 5), (3, 3, 5, 1)),
    "6 make 3, down in steps": (
        SAME | {"strides": (3, 1), "padding": ((2, 1), (1, 0))},
        (2, 13, 21, 6),
        (4, 3, 6, 3),
    ),
    "4 make 2, along in steps": (
        plain_attrs(2) | {"strides": (1, 2), "padding": ((1, 0), (0, 0))},
        (1, 5, 40, 4),
        (3, 5, 4, 2),
    ),
    "64 make 2, in two chunks": (SAME, (1, 4, 33, 64), (3, 3, 64, 2)),
    "9 make 1, dilated": (SAME | {"rhs_dilation": (2, 3)}, (2, 8, 17, 9), (3, 3, 9, 1)),
    "7 make 2, gaps": (
        plain_attrs(2) | {"lhs_dilation": (2, 2), "padding": ((2, 1), (1, 2)), "flip": True},
        (2, 5, 18, 7),
        (3, 3, 7, 2),
    ),
    "1 makes 1": (SAME, (2, 6, 20, 1), (3, 3, 1, 1)),
    "9 make 1, one axis": (plain_attrs(1) | {"padding": ((3, 1),)}, (3, 20, 9), (5, 9, 1)),
    "4 make 1, three axes": (
        plain_attrs(3) | {"padding": ((1, 0), (1, 1), (0, 2))},
        (2, 4, 5, 16, 4),
        (2, 3, 3, 4, 1),
    ),
    "one place makes lines, of 5": (
        plain_attrs(2) | {"padding": ((1, 1), (4, 4))},
        (2, 6, 1, 5),
        (3, 3, 5, 1),
    ),
    "one place makes lines, in groups": (
        plain_attrs(2) | {"padding": ((1, 1), (4, 4)), "feature_groups": 3},
        (2, 6, 1, 12),
        (3, 3, 4, 12),
    ),
    "17 make 1, lines below a vector": (SAME, (2, 5, 11, 17), (3, 3, 17, 1)),
    "sums of two chunks": (SAME | {"feature_groups": 2}, (2, 20, 21, 8), (3, 3, 4, 8)),
}
OTHER_DTYPES = (
    ("4 channels make 4", float64),
    ("depthwise, in steps", float64),
    ("16 make 16, 3 groups", float16),
    ("3 make 5, dilated", bfloat16),
    ("depthwise", bfloat16),
    ("5 make 1", float64),
    ("6 make 3, down in steps", float16),
    ("7 make 2, gaps", bfloat16),
)
IN_LINES = (
    "4 channels make 4",
    "8 make 8, in steps",
    "3 make 5, dilated",
    "one axis",
    "three axes",
)
ACROSS = tuple(
    form for form in FORMS if " make " in form and "feature_groups" not in FORMS[form][0]
)


def layer(form: str, dtype: DType = float32) -> Graph:
    """relu(convolution + bias)."""
    attrs, images, weights = FORMS[form]
    with building() as builder:
        shapes = (images, weights, weights[-1:])
        x, w, b = (builder.input(TensorType(dtype, shape)) for shape in shapes)
        y = convolution(x, w, **attrs)
        y = add(y, broadcast(b, shape=y.shape, axes=(y.tensor.rank - 1,)))
        return builder.graph([maximum(y, full_like(y, 0.0))])


def operands(graph: Graph) -> tuple[Any, ...]:
    """Seeded normal numbers."""
    rng = np.random.default_rng(0)
    types = [value.tensor for value in graph.inputs]
    return tuple(rng.normal(size=type.shape).astype(type.dtype.numpy) for type in types)


@pytest.fixture
def any_threads() -> Iterator[None]:
    """Sets the number of threads back."""
    before = pe.get_threads()
    yield
    pe.set_threads(before)


@pytest.mark.parametrize(
    ("form", "dtype"),
    [*((form, float32) for form in FORMS), *OTHER_DTYPES],
    ids=str,
)
@pytest.mark.usefixtures("any_threads")
def test_bits_are_those_of_each_op_by_itself_on_any_number_of_threads(
    form: str, dtype: DType
) -> None:
    cpu, back = find_engine("cpu"), vjp(layer(form, dtype), (0, 1, 2))
    arrays = operands(back)
    # Op by op kernels know no sizes, and go along no lines.
    wanted = run_launched(cpu, back, arrays)
    fused = optimize(back)
    for threads in (1, 2, 3):
        pe.set_threads(threads)
        assert all(map(same_bits, run_compiled(cpu, fused, arrays), wanted))


@pytest.mark.parametrize("form", FORMS)
def test_results_and_derivatives_are_near_the_reference(form: str) -> None:
    back = vjp(layer(form), (0, 1, 2))
    arrays = operands(back)
    found = run_compiled(find_engine("cpu"), optimize(back), arrays)
    for got, want in zip(found, evaluate(back, arrays), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-3)


def products(graph: Graph, isa: Isa) -> list[Kernel]:
    """The kernels with contractions."""
    calls = [call for node in graph.nodes for call in realise(node, isa).calls]
    kernels = [call.kernel for call in calls if isinstance(call.kernel, Kernel)]
    return [kernel for kernel in kernels if has_contraction(kernel)]


@pytest.mark.parametrize("isa", [AVX2, AVX512], ids=lambda isa: isa.name)
@pytest.mark.parametrize("form", [*IN_LINES, "a long window", "depthwise", "depthwise, gaps"])
def test_groups_go_along_lines_there_and_back_and_copy_no_padding(form: str, isa: Isa) -> None:
    back = optimize(vjp(layer(form), (0, 1)))
    assert all(plan_contraction(kernel, isa)[1].in_lines for kernel in products(back, isa))
    contractions = [node for node in back.nodes if contraction_of(body_of(node)) is not None]
    calls = [call for node in contractions for call in realise(node, isa).calls]
    names = [call.kernel.name for call in calls if isinstance(call.kernel, Kernel)]
    assert not any("window_sum" in name for name in names)


@pytest.mark.parametrize("form", [*ACROSS, "1 makes 1"])
def test_few_features_go_along_their_lines_and_copy_no_padding(form: str) -> None:
    graph = optimize(layer(form))
    made = products(graph, AVX512)
    assert made
    assert all(plan_contraction(kernel, AVX512)[1].across for kernel in made)
    names = {call.kernel.name for node in graph.nodes for call in realise(node, AVX512).calls}
    assert not any("window_sum" in name for name in names)


@pytest.mark.parametrize("form", ["4 channels make 4", "depthwise, gaps", "5 make 1"])
def test_infinite_weights_meet_zeros_in_padding(form: str) -> None:
    graph = layer(form)
    x, w, b = operands(graph)
    w[0, 0, 0, -1] = np.inf
    found, wanted = (
        run(find_engine("cpu"), graph, (x, w, b)) for run in (run_compiled, run_launched)
    )
    assert np.isnan(wanted[0][..., -1]).any()
    np.testing.assert_array_equal(found[0], wanted[0])


@pytest.mark.parametrize("form", ["4 channels make 4", "depthwise", "5 make 1"])
def test_tuning_tries_other_tasks_of_lines_and_no_other_tiles(form: str) -> None:
    plans = [
        (kernel, *plan_contraction(kernel, AVX512))
        for kernel in products(optimize(vjp(layer(form), (0, 1))), AVX512)
    ]
    in_lines = [plan for plan in plans if plan[2].in_lines]
    assert in_lines
    for kernel, spec, tiling in in_lines:
        tried = (*tile_variants(spec, AVX512, tiling), *task_variants(spec, tiling))
        assert tried
        for one in tried:
            assert (one.rows, one.vectors) == (tiling.rows, tiling.vectors)
            assert fits(spec, AVX512, one)
            again = replace(kernel, schedule=schedule_contraction(kernel, AVX512, one).schedule)
            assert plan_contraction(again, AVX512)[1] == one
        assert not fits(spec, AVX512, replace(tiling, rows=tiling.rows + 1))
