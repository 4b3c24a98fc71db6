"""Which loop of a contraction is m, which n, and which operand is lhs?

The loops over the result are sorted by what they move: lhs alone (m), rhs alone (n), both (batch).
Vectors will run along n, so it is the loop that is contiguous in the first result; if that one
moves lhs, the operands change places, which changes no bit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pellucid.engines.loops.ir import (
    Axis,
    Buffer,
    Contract,
    Follow,
    Kernel,
    Let,
    Load,
    Loop,
    Reduce,
    Statement,
    Store,
    indexes,
    nested,
)

LHS, RHS = "lhs", "rhs"
"""The first two buffers of an oriented kernel."""

BLOCK, GROUP = "block", "group"
"""The size parameters of a generic contraction that say how much a task takes."""

SHORT = 64
"""Lines of so many rows are not worth a product each."""

ROWS, DEPTH = "rows", "depth"
"""Those that say how many m's and k's there are, where each is several loops."""


@dataclass(frozen=True, slots=True)
class Roles:
    """A contraction with its loops sorted; a missing m or n has extent 1.

    `batch` also holds loops over n beyond one, and those over m where k is one axis and the last
    one is not short. Else `rows`, row-major, are all the loops over m. With several of them, or
    several axes of k, a contraction is `windowed`. One that is `beside` has a line of both operands
    beside each other for n: lhs moves along n as well. A `group` is a loop whose turns have columns
    of their own, one turn's after the other's, as `join_groups` says.
    """

    contract: Contract
    batch: tuple[Axis, ...]
    rows: tuple[Axis, ...]
    n: Axis
    beside: bool = False
    group: Axis | None = None

    @property
    def m(self) -> Axis:
        """The one loop over m, or the last of them."""
        return self.rows[-1]

    @property
    def k(self) -> Axis:
        """The one axis of the contraction, or the last of them: lhs moves along it from k to k."""
        return self.contract.axes[-1]

    @property
    def windowed(self) -> bool:
        """Whether lhs is found by tables, not by one step for m and one for k."""
        several = len(self.contract.axes) > 1 and self.contract.fold == 1
        return self.beside or len(self.rows) > 1 or several


def has_contraction(kernel: Kernel) -> bool:
    """Whether a kernel is a contraction."""
    return any(isinstance(statement, Contract) for statement in nested(kernel.body))


def orient(kernel: Kernel) -> tuple[Kernel, tuple[str, str]]:
    """The kernel with buffers lhs and rhs before those it touches beside them; what these two were.

    The operands get buffers of their own, also where the epilogue reads the same memory.
    """
    contract = _contract(kernel)
    left, right = contract.lhs, contract.rhs
    if len(contract.axes) == 1 and _runs_along(kernel, left, right):
        left, right = right, left
    new = replace(contract, lhs=replace(left, buffer=LHS), rhs=replace(right, buffer=RHS))
    touched = {s.buffer for s in nested(kernel.body) if isinstance(s, Store)} | {
        s.value.buffer
        for s in nested(kernel.body)
        if isinstance(s, Let) and isinstance(s.value, Load)
    }
    operands = (
        Buffer(LHS, kernel.buffer(left.buffer).dtype, "read"),
        Buffer(RHS, kernel.buffer(right.buffer).dtype, "read"),
    )
    others = tuple(buffer for buffer in kernel.buffers if buffer.name in touched)
    body = _replaced(kernel.body, contract, new)
    return replace(kernel, buffers=(*operands, *others), body=body), (left.buffer, right.buffer)


def sort_loops(kernel: Kernel, short: bool = True) -> Roles:
    """The roles of the loops of an oriented kernel.

    Without `short` they are those of the kernel for any size: no line is known to be short. Two
    axes of a folded contraction are as one.
    """
    contract = _contract(kernel)
    axes = [s.axis for s in nested(kernel.body) if isinstance(s, Loop)]
    left, right = _met(axes, contract), _moving(axes, contract.rhs)
    rows = [axis for axis in left if axis not in right]
    columns = [axis for axis in right if axis not in left]
    if axes and not columns and _lies_beside(axes[-1], contract):
        mine = tuple(rows) or (Axis("m_one", 1),)
        batch = tuple(axis for axis in axes[:-1] if axis not in mine)
        return Roles(contract, batch, mine, axes[-1], beside=True)
    folded = contract.fold > 1
    several = not folded and (len(contract.axes) > 1 or (short and _are_short(rows, contract)))
    mine = tuple(rows if several else rows[-1:]) or (Axis("m_one", 1),)
    n = columns[-1] if columns else Axis("n_one", 1)
    return Roles(contract, tuple(axis for axis in axes if axis not in (*mine, n)), mine, n)


def join_groups(kernel: Kernel, roles: Roles) -> Roles:
    """The roles with n counted through all groups; the same where there are none.

    All indexes then go on by as much from group to group as along n, but for that of lhs.
    """
    contract, n = roles.contract, roles.n
    for group in reversed(roles.batch):
        steps = [
            (index.coefficient(group.name), index.coefficient(n.name))
            for statement in nested(kernel.body)
            if not isinstance(statement, Loop | Contract | Reduce | Follow)
            for index in indexes(statement)
        ]
        rhs = contract.rhs.index
        steps.append((rhs.coefficient(group.name), rhs.coefficient(n.name)))
        step = contract.lhs.index.coefficient(group.name)
        sizes = (n.extent, group.extent, step)
        if not all(isinstance(size, int) and size > 0 for size in sizes):
            continue
        if any(bound.index.coefficient(group.name) for bound in contract.within):
            continue
        if all(isinstance(b, int) and a == b * n.extent for a, b in steps):
            batch = tuple(axis for axis in roles.batch if axis is not group)
            return replace(roles, batch=batch, group=group)
    return roles


def _lies_beside(axis: Axis, contract: Contract) -> bool:
    """Whether both operands have neighbours along an axis, as a depthwise window's channels."""
    return all(load.index.coefficient(axis.name) == 1 for load in (contract.lhs, contract.rhs))


def _are_short(rows: list[Axis], contract: Contract) -> bool:
    """Whether lines of rows are too low for products of their own, and are read where they lie."""
    along = all(contract.lhs.index.coefficient(axis.name) == 1 for axis in contract.axes)
    return along and bool(rows) and isinstance(rows[-1].extent, int) and rows[-1].extent <= SHORT


def _contract(kernel: Kernel) -> Contract:
    (contract,) = (s for s in nested(kernel.body) if isinstance(s, Contract))
    return contract


def _met(axes: list[Axis], contract: Contract) -> list[Axis]:
    """The loops along which other elements of lhs are met, or zeros in their stead."""
    indexes = (contract.lhs.index, *(bound.index for bound in contract.within))
    return [axis for axis in axes if any(index.coefficient(axis.name) for index in indexes)]


def _moving(axes: list[Axis], load: Load) -> list[Axis]:
    return [axis for axis in axes if load.index.coefficient(axis.name) != 0]


def _runs_along(kernel: Kernel, lhs: Load, rhs: Load) -> bool:
    """Whether lhs, and not rhs, moves along the loop that is contiguous in the result."""
    axes = [s.axis for s in nested(kernel.body) if isinstance(s, Loop)]
    store = next(s for s in nested(kernel.body) if isinstance(s, Store))
    left, right = _moving(axes, lhs), _moving(axes, rhs)
    along = [axis for axis in axes if store.index.coefficient(axis.name) == 1]
    return any(axis in left and axis not in right for axis in along)


def _replaced(body: tuple[Statement, ...], old: Contract, new: Contract) -> tuple[Statement, ...]:
    def change(statement: Statement) -> Statement:
        if isinstance(statement, Loop):
            return replace(statement, body=_replaced(statement.body, old, new))
        return new if statement is old else statement

    return tuple(change(statement) for statement in body)
