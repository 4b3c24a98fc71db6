"""Are kernels told by what they do?"""

from __future__ import annotations

import pellucid as pe
from pellucid.explain import KernelSummary, graph_of, summaries


def of(function: object, *args: object) -> tuple[KernelSummary, ...]:
    with pe.recording() as record:
        pe.jit(function).compile(*args)
    return summaries(graph_of(record.named("fuse")[-1]))


def test_a_chain_of_elementwise_ops_is_one_kernel():
    (kernel,) = of(lambda x: pe.tanh(pe.exp(x)) * x, pe.zeros((3,)))
    assert kernel.ops == (("exp", 1), ("tanh", 1), ("mul", 1))
    assert kernel.fused


def test_an_op_alone_is_called_single():
    (kernel,) = of(pe.exp, pe.zeros((3,)))
    assert (kernel.kind, kernel.fused) == ("single", False)


def test_repeated_ops_are_counted():
    (kernel,) = of(lambda x: pe.exp(pe.exp(x)), pe.zeros((3,)))
    assert kernel.ops == (("exp", 2),)
    assert str(kernel) == "loop: exp×2 -> float32[3]"


def test_bias_and_activation_are_in_the_products_kernel():
    (kernel,) = of(
        lambda x, w, b: pe.maximum(x @ w + b, 0.0), pe.zeros((2, 3)), pe.zeros((3, 4)), pe.zeros(4)
    )
    assert kernel.kind == "contract"
    assert [op for op, _ in kernel.ops] == ["dot_general", "add", "maximum"]
