"""How does a kernel with a contraction become LLVM IR? As a tiled product with an epilogue.

`loops.roles` says which loop is m, which n; vectors run along n. The other lines of the kernel are
emitted on each vector of finished sums.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import cast

from pellucid.core.dtype import DType
from pellucid.core.machine import cache_bytes
from pellucid.engines.llvm.elementwise import memory_type, register_type
from pellucid.engines.llvm.line_choice import grouped_tiling
from pellucid.engines.llvm.line_sums import write_line_sums
from pellucid.engines.llvm.lines import write_lines
from pellucid.engines.llvm.loop import emit
from pellucid.engines.llvm.product import KERNEL, define_product
from pellucid.engines.llvm.product_results import Place
from pellucid.engines.llvm.scope import Scope, Vector
from pellucid.engines.llvm.sizes import Number
from pellucid.engines.llvm.tables import unravelled
from pellucid.engines.llvm.target import Isa
from pellucid.engines.llvm.text import Function, Module
from pellucid.engines.llvm.tile_choice import choose_tiling
from pellucid.engines.llvm.tiling import (
    Bound,
    Cut,
    Groups,
    Param,
    ProductSpec,
    Strides,
    Tables,
    Tiling,
    extents_of,
)
from pellucid.engines.llvm.tiling import Size as ProductSize
from pellucid.engines.llvm.turned_choice import launch_of
from pellucid.engines.llvm.turned_lines import write_turned_lines
from pellucid.engines.llvm.types import I64, VOID, Value
from pellucid.engines.loops.ir import (
    Affine,
    Axis,
    Binding,
    BindingKind,
    Contract,
    Kernel,
    Let,
    Load,
    Loop,
    Size,
    Statement,
    Store,
    Within,
)
from pellucid.engines.loops.roles import BLOCK, DEPTH, GROUP, ROWS, Roles, join_groups, sort_loops


def plan_contraction(kernel: Kernel, isa: Isa) -> tuple[ProductSpec, Tiling]:
    """What product a kernel computes, and how it is cut: by its schedule, if it has one."""
    _, spec, tiling = _planned(kernel, isa)
    return spec, tiling


def _planned(kernel: Kernel, isa: Isa) -> tuple[Roles, ProductSpec, Tiling]:
    roles = sort_loops(kernel)
    joined = join_groups(kernel, roles)
    spec = _spec(kernel, joined)
    if joined is not roles and grouped_tiling(spec, isa) is None:
        joined, spec = roles, _spec(kernel, roles)
    if spec.is_static:
        tiling = choose_tiling(spec, isa)
        tiling = _scheduled(tiling, kernel, joined) if kernel.schedule else tiling
        return joined, spec, tiling
    block, group = (Param(kernel.parameters.index(name)) for name in (BLOCK, GROUP))
    return roles, spec, choose_tiling(spec, isa, block, group)


def contraction_cut(kernel: Kernel, isa: Isa) -> Cut:
    """How a kernel of known sizes is launched."""
    return launch_of(*plan_contraction(kernel, isa))


def schedule_contraction(kernel: Kernel, isa: Isa, tiling: Tiling | None = None) -> Kernel:
    """The kernel of known sizes with its axes bound: by the cost model, or as `tiling` says."""
    roles = sort_loops(kernel)
    chosen = tiling or plan_contraction(replace(kernel, schedule=()), isa)[1]
    m, n = roles.m.name, roles.n.name
    bindings = [
        Binding(m, "rows", chosen.rows),
        Binding(n, "vectors", chosen.vectors),
        Binding(m, "block", chosen.block if isinstance(chosen.block, int) else 1),
        Binding(n, "group", chosen.group if isinstance(chosen.group, int) else 1),
    ]
    bindings += [Binding(m, "pack", 1)] * chosen.pack_lhs + [
        Binding(n, "pack", 1)
    ] * chosen.pack_rhs
    return replace(kernel, schedule=tuple(bindings))


def _scheduled(tiling: Tiling, kernel: Kernel, roles: Roles) -> Tiling:
    """The tiling with the numbers of the kernel's schedule in it."""

    def factor(axis: Axis, kind: BindingKind) -> int:
        found = kernel.bound(axis.name, kind)
        assert isinstance(found, int), f"a product's schedule says its {kind}"
        return found

    m, n = roles.m, roles.n
    packed = kernel.bound(n.name, "pack") == 1
    return replace(
        tiling,
        rows=factor(m, "rows"),
        vectors=factor(n, "vectors"),
        block=factor(m, "block"),
        group=factor(n, "group"),
        pack_lhs=kernel.bound(m.name, "pack") == 1,
        pack_rhs=packed,
        ahead=0 if packed else tiling.ahead,
    )


def define_contraction(module: Module, kernel: Kernel) -> None:
    """Add the function of a kernel with one contraction to a module."""
    roles, spec, tiling = _planned(kernel, module.isa)
    if tiling.across:
        # Vectors run along the last loop over m.
        roles = replace(roles, rows=(*roles.rows[:-1], roles.n), n=roles.rows[-1])
    epilogue = _Epilogue(kernel, roles, tiling.lanes, _is_far(spec))
    if tiling.in_lines:
        _define_lines(module, kernel.name, spec, tiling, epilogue)
        return
    fetch = epilogue.fetch if spec.is_static and epilogue.asked else None
    define_product(module, kernel.name, spec, tiling, epilogue.emit, fetch)


def _define_lines(
    module: Module, name: str, spec: ProductSpec, tiling: Tiling, epilogue: _Epilogue
) -> None:
    # As tiles are, lines are laid out by hand.
    module.as_written = True
    f = module.function(name, VOID, KERNEL)
    if tiling.sums:
        write_line_sums(f, spec, tiling, epilogue.emit)
    elif tiling.across:
        write_turned_lines(f, spec, tiling, epilogue.emit)
    else:
        write_lines(f, spec, tiling, epilogue.emit, epilogue.fetch_results)
    f.ret()


def _is_far(spec: ProductSpec) -> bool:
    """Whether a result is larger than the caches of a core, and its tiles take their time."""
    if not spec.is_static:
        return False
    batch, m, n, k = extents_of(spec)
    return k >= _LONG and batch * m * n * spec.dtype.bytes > cache_bytes(2)


_LONG = 256
"""The k's beside which it is little to ask for a tile's results."""


def _spec(kernel: Kernel, roles: Roles) -> ProductSpec:
    def size(value: Size) -> ProductSize:
        return value if isinstance(value, int) else Param(kernel.parameters.index(value))

    def strides(index: Affine, first: str, second: str) -> Strides:
        batch = tuple(size(index.coefficient(axis.name)) for axis in roles.batch)
        return Strides(batch, size(index.coefficient(first)), size(index.coefficient(second)))

    contract, m, n, k = roles.contract, roles.m, roles.n, roles.k
    dtype: DType = kernel.buffer(contract.lhs.buffer).dtype
    batch = tuple(size(axis.extent) for axis in roles.batch)
    extents = size(m.extent), size(n.extent), size(k.extent)
    folded = contract.fold > 1
    if folded:
        extents = *extents[:2], _total(kernel, DEPTH, contract.axes)
    lhs = strides(contract.lhs.index, m.name, k.name)
    tables, groups = None, None
    if roles.group is not None:
        columns, step = roles.n.extent, contract.lhs.index.coefficient(roles.group.name)
        assert isinstance(columns, int), "groups are of known sizes"
        assert isinstance(step, int), "groups are of known sizes"
        groups = Groups(columns, step)
        extents = extents[0], columns * cast(int, roles.group.extent), extents[2]
    if roles.windowed:
        step = contract.lhs.index.coefficient
        axes = (roles.rows, contract.axes)
        sizes = (tuple(size(axis.extent) for axis in some) for some in axes)
        steps = (tuple(size(step(axis.name)) for axis in some) for some in axes)
        bounds = tuple(_bound(one, roles) for one in contract.within)
        offset = contract.lhs.index.offset
        tables = Tables(*sizes, *steps, bounds=bounds, offset=offset)
        extents = _total(kernel, ROWS, roles.rows), extents[1], _total(kernel, DEPTH, contract.axes)
        lhs = Strides(lhs.batch, 0, 1 if roles.beside else 0)
    rhs = strides(contract.rhs.index, contract.axes[0].name if folded else k.name, n.name)
    if folded:
        rhs = rhs.in_elements(contract.fold)
    # The epilogue stores, so that the product needs no strides of a result.
    out = Strides((0,) * len(batch), 0, 1)
    pointers = len(kernel.buffers)
    product = ProductSpec(dtype, batch, *extents, lhs, rhs, out, pointers, tables, roles.beside)
    whole = kernel.bound(k.name, "whole") is not None
    return replace(product, folded=folded, groups=groups, whole=whole)


def _bound(within: Within, roles: Roles) -> Bound:
    """A bound in steps along the loops of rows and of k's."""
    rows, depths = (
        tuple(cast(int, within.index.coefficient(axis.name)) for axis in axes)
        for axes in (roles.rows, roles.contract.axes)
    )
    return Bound(rows, depths, within.index.offset, within.size)


def _total(kernel: Kernel, name: str, axes: tuple[Axis, ...]) -> ProductSize:
    """How many places the axes have together."""
    if name in kernel.parameters:
        return Param(kernel.parameters.index(name))
    return prod(cast(int, axis.extent) for axis in axes)


@dataclass(frozen=True, slots=True)
class _Epilogue:
    """Emits all lines of the kernel but the contraction, for the sums at one place.

    What is written `far` away, to more than a core's own caches hold, waits for its line.
    """

    kernel: Kernel
    roles: Roles
    lanes: int
    far: bool

    @property
    def asked(self) -> list[Load | Store]:
        """What is read for each row of the result, along it, or written far away."""
        lines = _flat(self.kernel.body)
        found = [s.value if isinstance(s, Let) else s for s in lines]
        n, rows = self.roles.n.name, {axis.name for axis in self.roles.rows}
        return [
            one
            for one in found
            if isinstance(one, Load | Store)
            and one.index.coefficient(n) == 1
            and any(name in rows for name, _ in one.index.terms)
            and (isinstance(one, Load) or self.far)
        ]

    def fetch(self, f: Function, place: Place) -> None:
        """Ask for what is read, or written, at a place."""
        scope = self._scope(f, place)
        for one in self.asked:
            start, _, wild = scope.locate(one.index)
            if not wild:
                dtype = self.kernel.buffer(one.buffer).dtype
                at = f.gep(scope.pointers[one.buffer], start, memory_type(dtype))
                f.prefetch(at, write=isinstance(one, Store))

    def fetch_results(self, f: Function, place: Place) -> None:
        """Ask for where results will be written at a place, along memory."""
        scope = self._scope(f, place)
        for store in (s for s in _flat(self.kernel.body) if isinstance(s, Store)):
            start, _, wild = scope.locate(store.index)
            if not wild and store.index.coefficient(self.roles.n.name) == 1:
                dtype = self.kernel.buffer(store.buffer).dtype
                at = f.gep(scope.pointers[store.buffer], start, memory_type(dtype))
                f.prefetch(at, locality=2)

    def emit(self, f: Function, sums: Value, place: Place) -> None:
        """Give the sums the contraction's name and emit what follows it."""
        roles, scope = self.roles, self._scope(f, place)
        dtype = roles.contract.dtype
        # Narrow integers are summed in wider ones; the low bits are the sum.
        narrow = register_type(dtype).with_lanes(sums.type.lanes)
        exact = f.cast("trunc", sums, narrow) if narrow.bits < sums.type.bits else sums
        scope.values[roles.contract.name] = (exact,)
        scope.dtypes[roles.contract.name] = dtype
        emit(scope, _flat(self.kernel.body))

    def _scope(self, f: Function, place: Place) -> Scope:
        """The names that stand for a place."""
        roles, names = self.roles, [buffer.name for buffer in self.kernel.buffers]
        vector = Vector(roles.n.name, self.lanes, 1, place.mask) if self.lanes > 1 else None
        sizes = {
            name: f.load(I64, f.gep(place.sizes, number, I64), invariant=True)
            for number, name in enumerate(self.kernel.parameters)
        }
        pointers = dict(zip(names, place.pointers, strict=True))
        batch = dict(zip((axis.name for axis in roles.batch), place.batch, strict=True))
        axes: dict[str, Number] = {**batch, **self._rows(f, sizes, place)}
        axes[roles.n.name] = place.n
        if roles.group is not None:
            # Columns are counted through all groups, which each index goes on by.
            axes[roles.group.name] = 0
        return Scope(f, self.kernel, pointers, sizes, vector, axes)

    def _rows(self, f: Function, sizes: dict[str, Value], place: Place) -> dict[str, Number]:
        """Where the loops over m stand at a row."""
        rows = self.roles.rows
        if place.rows:
            return {axis.name: at for axis, at in zip(rows, place.rows, strict=True)}
        extents = [sizes[a.extent] if isinstance(a.extent, str) else a.extent for a in rows]
        places = unravelled(f, place.m, extents)
        return dict(zip((axis.name for axis in rows), places, strict=True))


def _flat(body: tuple[Statement, ...]) -> tuple[Statement, ...]:
    """The statements without the loops around them and without the contraction."""
    flat: list[Statement] = []
    for statement in body:
        if isinstance(statement, Loop):
            flat += _flat(statement.body)
        elif not isinstance(statement, Contract):
            flat.append(statement)
    return tuple(flat)
