"""How do words and other things that are numbered become vectors? By a table of a row for each."""

from __future__ import annotations

from typing import Any

from pellucid.core.dtype import as_dtype, float32
from pellucid.core.error import OpTypeError, StateError
from pellucid.core.source import at_line, user_source
from pellucid.nn.initializers import Initializer, find_initializer
from pellucid.nn.module import Module, new_parameter
from pellucid.nn.numbered import nan_where_out_of_range, require_in_range
from pellucid.ops.index import gather
from pellucid.tensor.dispatch import apply
from pellucid.tensor.state import as_tensor
from pellucid.tensor.tensor import Operand, Tensor


class Embedding(Module):
    """A row of the Parameter `table` (count, features) for each whole number from 0 to count - 1.

    Input integers of any shape (...); output (..., features). A number out of range is an
    OpIndexError; where the numbers are not known, in a compiled function, its row is NaN. Rows are
    read where they lie, and their gradients added there: the work does not grow with `count`. The
    table can serve as the last layer, too: x @ embedding.table.T.

    >>> Embedding(10, 4)(as_tensor([[1, 2, 3]])).shape
    (1, 3, 4)
    """

    def __init__(
        self,
        count: int,
        features: int,
        *,
        initializer: str | Initializer = "lecun_normal",
        dtype: Any = float32,
    ) -> None:
        if count < 1 or features < 1:
            raise StateError(f"Embedding: expected at least (1, 1), got {(count, features)}")
        self.count = count
        self.features = features
        self.dtype = as_dtype(dtype)
        shape, fans = (count, features), (features, features)
        make = find_initializer(initializer)
        self.table = new_parameter("table", shape, make, fans, self.dtype)

    def forward(self, ids: Operand) -> Tensor:
        """Integers of shape (...) to (..., features)."""
        numbers = as_tensor(ids)
        if not numbers.dtype.is_integer:
            raise OpTypeError(
                f"Embedding: expected integers, got {numbers.layout.type}{at_line(user_source())}\n"
                "  did you mean ids.astype('int64') ?"
            )
        way_out = "the first size of nn.Embedding is how many numbers there are"
        require_in_range("Embedding: the number", numbers, self.count, way_out)
        rows = apply(gather, (as_tensor(self.table), numbers), (("axes", (0,)),))
        return nan_where_out_of_range(rows, numbers, self.count)
