"""How do numbers get into a file and back? As safetensors, under a JSON header that explains them.

A file is written beside its place, forced to the disk and renamed: whatever happens, the old file
or the new one is there in full. Reading checks everything before anything is changed: the format,
a checksum over all numbers, and that names, dtypes and shapes are the model's. Nothing is
unpickled.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from pellucid.core.dtype import bfloat16
from pellucid.core.error import CheckpointError, StateError
from pellucid.core.source import at_line, user_source
from pellucid.nn.module import Module, named_modules
from pellucid.ops.define import type_of
from pellucid.tensor.creation import asarray
from pellucid.tensor.state import Variable
from pellucid.tensor.tensor import Tensor

FORMAT: Final = 1
WEIGHTS: Final = "weights"
"""In the header of a file that has more in it: with what the names of a model's weights begin."""
_KEY: Final = "pellucid"
Arrays = Mapping[str, NDArray[Any]]
Header = dict[str, Any]


def save_weights(model: Module, path: str | os.PathLike[str]) -> None:
    """Write every Parameter and Buffer of a model to a safetensors file.

    Raises StateError where there are none yet, CheckpointError where the file cannot be written.
    """
    header = {"kind": "weights", "modules": structure(model)}
    write_tensors(path, numbers_of("save_weights", model), header)


def load_weights(model: Module, path: str | os.PathLike[str]) -> None:
    """Give a model the Parameters and Buffers of a file that `save_weights` wrote.

    The file of a training state (`train.Checkpoint`) will do, too, and any safetensors file that
    has the model's names, dtypes and shapes. Raises StateError where the model has no Parameters
    yet, CheckpointError on anything else; then nothing changed.
    """
    cells = _cells("load_weights", model)
    arrays, header = read_tensors(path)
    kind, prefix = header.get("kind", "weights"), header.get(WEIGHTS, "")
    if (kind != "weights" and not prefix) or not isinstance(prefix, str):
        raise CheckpointError(f"{path}: expected weights, got a file of kind {kind!r}")
    weights = {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}
    assign_all(path, cells, weights)


def structure(model: Module) -> dict[str, str]:
    """The class of every module of a model, by path."""
    return {path: type(module).__name__ for path, module in named_modules(model).items()}


def numbers_of(name: str, model: Module) -> dict[str, NDArray[Any]]:
    """The numbers of every cell of a model, by path; raises StateError where there is none."""
    return {path: cell.numpy() for path, cell in _cells(name, model).items()}


def assign_all(path: object, cells: Mapping[str, Variable], arrays: Arrays) -> None:
    """Give each cell the array of its name, all or none; raises CheckpointError."""
    require_same(path, cells, arrays)
    # All memory is there before the first cell changes.
    tensors: dict[str, Tensor] = {name: asarray(arrays[name], copy=True) for name in cells}
    for name, cell in cells.items():
        cell.assign(tensors[name])


def require_same(path: object, cells: Mapping[str, Variable], arrays: Arrays) -> None:
    """Raise CheckpointError unless the file has just these cells."""
    missing, extra = sorted(set(cells) - set(arrays)), sorted(set(arrays) - set(cells))
    wrong = [
        f"{name} is {type_of(arrays[name])}, expected {cell.type}"
        for name, cell in cells.items()
        if name in arrays and type_of(arrays[name]) != cell.type
    ]
    if missing or extra or wrong:
        parts = [_list("missing", missing), _list("unknown", extra), _list("", wrong)]
        raise CheckpointError(
            f"{path}: the file is of another model; {'; '.join(filter(None, parts))}"
        )


def write_tensors(path: str | os.PathLike[str], arrays: Arrays, header: Header) -> None:
    """Write arrays by name, with a header of plain JSON values; raises CheckpointError."""
    from safetensors.numpy import save

    dense = {name: np.ascontiguousarray(a).reshape(a.shape) for name, a in arrays.items()}
    told = {"format": FORMAT, **header}
    # One entry: equal states give equal files, and safetensors keeps entries in no order.
    sealed = json.dumps({**told, "sha256": _digest(dense, told)})
    try:
        _replace(Path(path), save(dense, {_KEY: sealed}))
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot write it: {error.strerror or error}\n  what was there is unchanged; "
            "make room, or save to another place"
        ) from error


def read_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, NDArray[Any]], Header]:
    """The arrays of a file by name, and its header, empty if pellucid did not write the file.

    Raises CheckpointError where it cannot be read, is damaged, or has a header of another kind.
    """
    if not Path(path).is_file():
        raise CheckpointError(f"{path}: there is no such file")
    arrays, metadata = _parsed(path)
    if _KEY not in metadata:
        return arrays, {}
    try:
        header = json.loads(metadata[_KEY])
    except (ValueError, RecursionError):
        raise CheckpointError(f"{path}: the header is not JSON") from None
    if not isinstance(header, dict):
        raise CheckpointError(f"{path}: the header is no table of names and values")
    found = cast("Header", header)
    if found.pop("sha256", None) != _digest(arrays, found):
        raise CheckpointError(
            f"{path}: the file is damaged: its checksum differs\n  {_ANOTHER_COPY}"
        )
    if found.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: expected format {FORMAT}, got {found.get('format')!r}\n"
            "  another version of pellucid wrote the file"
        )
    return arrays, found


def _parsed(path: str | os.PathLike[str]) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    # NumPy knows a file's bfloat16 by name only once that dtype has been loaded.
    _ = bfloat16.numpy
    try:
        opened: Any = safe_open(path, framework="numpy")
        with opened as file:
            _require_distinct_names(path)
            names: list[str] = list(file.keys())
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(
            f"{path}: not a whole safetensors file: {error}\n  {_ANOTHER_COPY}"
        ) from None


def _require_distinct_names(path: str | os.PathLike[str]) -> None:
    """Raise ValueError where a tensor has two entries, of which readers would take either."""
    with Path(path).open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        text = file.read(length)

    def distinct(pairs: list[tuple[str, Any]]) -> None:
        names = [name for name, _ in pairs]
        if len(set(names)) < len(names):
            raise ValueError(f"the header has {max(names, key=names.count)!r} twice")

    json.loads(text, object_pairs_hook=distinct)


def _replace(path: Path, content: bytes) -> None:
    """Write beside, force to the disk, rename; what went wrong leaves nothing behind."""
    beside = path.with_name(f".{path.name}.writing-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        with beside.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise
    # The new name is on the disk when its folder is.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _digest(arrays: Arrays, header: Header) -> str:
    """A checksum over the header and every array with its name and type."""
    total = hashlib.sha256(json.dumps(header).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        total.update(f"\n{name} {array.dtype.name} {arrays[name].shape}\n".encode())
        total.update(array.reshape(-1).view(np.uint8).data)
    return total.hexdigest()


def _cells(name: str, model: Module) -> dict[str, Variable]:
    cells = model.variables()
    if not cells:
        raise StateError(
            f"{name}: the model has no Parameters yet{at_line(user_source())}\n"
            "  call it once on an example: its shapes are found then"
        )
    return cells


def _list(what: str, names: list[str]) -> str:
    if not names:
        return ""
    shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" * (len(names) > _SHOWN))
    return f"{what} {shown}".strip()


_SHOWN: Final = 4
_ANOTHER_COPY: Final = "nothing was read from it: take another copy, or an earlier checkpoint"
