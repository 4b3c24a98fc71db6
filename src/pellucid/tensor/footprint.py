"""How much memory does a compiled call hold, and what holds it? Known before it runs."""

from __future__ import annotations

from dataclasses import dataclass

from pellucid.passes.memory import Held

SHOWN = 20
"""How many of the values in the arena the text names: the largest."""


@dataclass(frozen=True)
class Footprint:
    """The bytes that a compiled call holds at most, in parts.

    `arguments` and `state` (the cells and Tensors that the function reads or assigns) were there
    before the call. On top come new values of cells that somebody else holds, which are not written
    in place, and copies of borrowed Tensors that are not dense. `results` (with the gradients that
    it leaves) are made in each call. The `arena` is made in the first call and kept for the next,
    `constants` when the function is compiled. These three are the sizes of the engine's blocks.
    Each thread has `scratch` beside that.

    `held` names what is in the arena when it is fullest, largest first: each value with its bytes,
    the nodes from which to which it is needed, and the line that it comes from.
    """

    name: str
    arguments: int
    state: int
    results: int
    arena: int
    constants: int
    scratch: int
    held: tuple[Held, ...]

    @property
    def peak(self) -> int:
        """All of it, scratch apart: the most that is held at once."""
        return self.arguments + self.state + self.call + self.constants

    @property
    def call(self) -> int:
        """What the first call allocates."""
        return self.results + self.arena

    def __str__(self) -> str:
        names = ("arguments", "state", "results", "arena", "constants")
        parts = ", ".join(f"{name} {getattr(self, name):,}" for name in names)
        lines = [f"{self.name}: {self.peak:,} bytes at most", f"  {parts}"]
        lines.append(f"  and {self.scratch:,} bytes of scratch for each thread")
        if self.held:
            lines.append(f"in the arena when it is fullest: {len(self.held)} values")
        lines += [f"  {one}" for one in self.held[:SHOWN]]
        rest = self.held[SHOWN:]
        if rest:
            lines.append(f"  and {len(rest)} smaller, {sum(one.bytes for one in rest):,} bytes")
        return "\n".join(lines)
