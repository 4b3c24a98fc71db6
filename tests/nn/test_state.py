"""Do weights survive a file, and is a wrong file refused by name without changing anything?"""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pellucid as pe
from pellucid import nn
from tests.tensor.training import assert_same_bits, numbers_of


def model(units: int = 3) -> nn.Sequential:
    """Parameters and Buffers, some of them narrow."""
    made = nn.Sequential([nn.Dense(4, dtype="bfloat16"), nn.BatchNorm(), nn.Dense(units)])
    made(pe.ones((5, 2)))
    return made


def header_and_data(content: bytes) -> tuple[dict[str, Any], bytes]:
    """A safetensors file in its two parts."""
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def joined(header: dict[str, Any], data: bytes) -> bytes:
    """And back."""
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def test_weights_come_back_bit_for_bit(tmp_path: Path):
    pe.random.seed(1)
    first, second = model(), model()
    nn.save_weights(first, tmp_path / "w.safetensors")
    assert numbers_of(first)["layers.0.kernel"].tobytes() != numbers_of(second)[
        "layers.0.kernel"
    ].tobytes()  # fmt: skip
    nn.load_weights(second, tmp_path / "w.safetensors")
    nn.save_weights(second, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "w.safetensors").read_bytes()
    (tmp_path / "again").unlink()
    assert_same_bits(numbers_of(second), numbers_of(first))
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]


def test_a_file_of_another_program_will_do(tmp_path: Path):
    from safetensors.numpy import save_file

    dense = nn.Dense(2)
    dense(pe.zeros((1, 3)))
    kernel, bias = np.arange(6, dtype=np.float32).reshape(3, 2), np.ones(2, np.float32)
    save_file({"kernel": kernel, "bias": bias}, tmp_path / "w.safetensors")
    nn.load_weights(dense, tmp_path / "w.safetensors")
    assert_same_bits(numbers_of(dense), {"kernel": kernel, "bias": bias})


def nested(header: dict[str, Any]) -> None:
    """JSON so deep that reading it naively overflows the stack."""
    header["__metadata__"]["pellucid"] = "[" * 100_000


def wrong_type(header: dict[str, Any]) -> None:
    """A text that is JSON but no table."""
    header["__metadata__"]["pellucid"] = "7"


def edited(header: dict[str, Any]) -> None:
    """A header that was changed by hand, its checksum not."""
    text = header["__metadata__"]["pellucid"]
    header["__metadata__"]["pellucid"] = text.replace('"weights"', '"poisons"')


def beyond(header: dict[str, Any]) -> None:
    """A tensor that lies outside of the file."""
    header["layers.2.bias"]["data_offsets"] = [10**9, 10**9 + 12]


def overlapping(header: dict[str, Any]) -> None:
    """A tensor that claims another one's bytes."""
    header["layers.2.bias"]["data_offsets"] = [0, 12]


def enormous(header: dict[str, Any]) -> None:
    """A shape whose size is no 64-bit number."""
    header["layers.2.bias"]["shape"] = [2**62, 2**62]


def negative(header: dict[str, Any]) -> None:
    """A tensor that begins before the file."""
    header["layers.2.bias"]["data_offsets"] = [-12, 0]


def another_dtype(header: dict[str, Any]) -> None:
    """The same bytes read as other numbers."""
    header["layers.2.bias"]["dtype"] = "I32"


def unknown_dtype(header: dict[str, Any]) -> None:
    """Numbers that nobody has heard of."""
    header["layers.2.bias"]["dtype"] = "F12"


def no_text(header: dict[str, Any]) -> None:
    """A description that is no text."""
    header["__metadata__"]["pellucid"] = {"format": 1}


def poisoned(header: dict[str, Any]) -> None:
    """What weights lie under is no text, though the checksum is none either."""
    header["__metadata__"]["pellucid"] = json.dumps({"format": 1, "weights": 3, "sha256": None})


HOSTILE = [nested, wrong_type, edited, beyond, overlapping, enormous, negative, another_dtype,
           unknown_dtype, no_text, poisoned]  # fmt: skip


@pytest.mark.parametrize("change", HOSTILE)
def test_a_hostile_header_is_refused(tmp_path: Path, change: Any):
    path, saved = tmp_path / "w.safetensors", model()
    nn.save_weights(saved, path)
    header, data = header_and_data(path.read_bytes())
    change(header)
    path.write_bytes(joined(header, data))
    before = numbers_of(saved)
    with pytest.raises(pe.CheckpointError, match=r"w\.safetensors"):
        nn.load_weights(saved, path)
    assert_same_bits(numbers_of(saved), before)


RAW_HEADERS = {
    "deep": b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "deep tables": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "a list": b"[]",
    "not utf-8": b'\xff\xfe{"a": 1}',
    "nothing": b"",
    "two texts": b"{}{}",
}


@pytest.mark.parametrize("name", RAW_HEADERS)
def test_a_header_that_is_no_table_of_tensors_is_refused(tmp_path: Path, name: str):
    path, saved, text = tmp_path / "w.safetensors", model(), RAW_HEADERS[name]
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"\0" * 16)
    before = numbers_of(saved)
    with pytest.raises(pe.CheckpointError, match="not a whole safetensors file"):
        nn.load_weights(saved, path)
    assert_same_bits(numbers_of(saved), before)


def test_a_name_that_comes_twice_is_refused(tmp_path: Path):
    from safetensors.numpy import save

    dense = nn.Dense(2)
    dense(pe.zeros((1, 3)))
    content = save({"kernel": np.ones((3, 2), np.float32), "bias": np.ones(2, np.float32)})
    header, data = header_and_data(content)
    text = json.dumps(header)
    twice = f'{text[:-1]}, "bias": {json.dumps(header["bias"])}}}'.encode()
    path = tmp_path / "w.safetensors"
    path.write_bytes(struct.pack("<Q", len(twice)) + twice + data)
    with pytest.raises(pe.CheckpointError, match="the header has 'bias' twice"):
        nn.load_weights(dense, path)


def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path):
    path, saved = tmp_path / "w.safetensors", model()
    nn.save_weights(saved, path)
    content, before = path.read_bytes(), numbers_of(saved)
    for length in [*range(0, len(content), 13), len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(pe.CheckpointError, match="not a whole safetensors file"):
            nn.load_weights(saved, path)
    assert_same_bits(numbers_of(saved), before)


BFLOAT16 = """
import sys
import pellucid as pe
from pellucid import nn
dense = nn.Dense(2)
dense(pe.zeros((1, 3)))
try:
    nn.load_weights(dense, sys.argv[1])
except pe.CheckpointError as error:
    print(error)
"""


def test_narrow_weights_are_another_model_s_also_where_nobody_has_used_the_dtype(tmp_path: Path):
    dense = nn.Dense(2, dtype="bfloat16")
    dense(pe.zeros((1, 3)))
    nn.save_weights(dense, tmp_path / "w")
    done = subprocess.run([sys.executable, "-c", BFLOAT16, str(tmp_path / "w")], check=True,
                          capture_output=True, text=True)  # fmt: skip
    assert "bias is bfloat16[2], expected float32[2]" in done.stdout


BROKEN = {
    "empty": lambda content: b"",
    "truncated in the header": lambda content: content[:40],
    "truncated in the numbers": lambda content: content[:-5],
    "a length beyond the file": lambda content: b"\xff" * 8 + content[8:],
    "longer": lambda content: content + b"more",
    "one bit of a number": lambda content: content[:-1] + bytes([content[-1] ^ 1]),
    "no safetensors": lambda content: b"PK\x03\x04" + b"\x00" * 100,
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_damaged_file_is_refused(tmp_path: Path, name: str):
    path, saved = tmp_path / "w.safetensors", model()
    nn.save_weights(saved, path)
    path.write_bytes(BROKEN[name](path.read_bytes()))
    before = numbers_of(saved)
    with pytest.raises(pe.CheckpointError, match=r"w\.safetensors: (not a whole|the file is dam)"):
        nn.load_weights(saved, path)
    assert_same_bits(numbers_of(saved), before)


def test_the_file_of_another_model_is_refused_with_the_differences(tmp_path: Path):
    path, other = tmp_path / "w.safetensors", model(7)
    nn.save_weights(model(3), path)
    before = numbers_of(other)
    with pytest.raises(pe.CheckpointError, match=r"another model; layers\.2\.kernel is float32"):
        nn.load_weights(other, path)
    assert_same_bits(numbers_of(other), before)
    dense = nn.Dense(2)
    dense(pe.zeros((1, 3)))
    with pytest.raises(pe.CheckpointError, match="missing bias, kernel; unknown layers"):
        nn.load_weights(dense, path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(pe.CheckpointError, match="no such file"):
            nn.load_weights(model(), path)


def test_a_model_without_shapes_is_answered_with_the_way_out(tmp_path: Path):
    with pytest.raises(pe.StateError, match=r"no Parameters yet(.*\n)+.*call it once"):
        nn.save_weights(nn.Dense(2), tmp_path / "w")
    with pytest.raises(pe.StateError, match="no Parameters yet"):
        nn.load_weights(nn.Dense(2), tmp_path / "w")


def test_a_full_disk_leaves_the_old_file(tmp_path: Path):
    path, saved = tmp_path / "w.safetensors", nn.Dense(100)
    saved(pe.zeros((1, 100)))
    nn.save_weights(saved, path)
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    # The system refuses the rest of a file this long, as it does where no space is left.
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(pe.CheckpointError, match=os.strerror(errno.EFBIG)):
            nn.save_weights(saved, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert path.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(pe.CheckpointError, match="cannot write it: No such file"):
        nn.save_weights(model(), tmp_path / "none" / "w.safetensors")


KILLED = """
import os, signal, sys, time
import pellucid as pe
from pellucid import nn

dense = nn.Dense(300)
dense(pe.zeros((1, 300)))
for turn in range(12):
    child = os.fork()
    if child == 0:
        number = 1.0 + turn * 1000
        while True:
            dense.kernel.assign(pe.full((300, 300), number))
            dense.bias.assign(pe.full((300,), number))
            nn.save_weights(dense, sys.argv[1])
            number += 1
    # Each moment is another one: while it writes, forces to the disk, renames.
    time.sleep(0.02 + turn * 0.0017)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    nn.load_weights(dense, sys.argv[1])
    values = [cell.value for cell in dense.parameters()]
    numbers = {float(end) for value in values for end in (value.min(), value.max())}
    assert len(numbers) == 1, numbers
print("whole", numbers != {0.0})
"""


def test_a_process_killed_while_saving_leaves_a_whole_file(tmp_path: Path):
    path, dense = tmp_path / "w.safetensors", nn.Dense(300, kernel_initializer="zeros")
    dense(pe.zeros((1, 300)))
    nn.save_weights(dense, path)
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False,
                          capture_output=True, text=True)  # fmt: skip
    assert done.stdout == "whole True\n", done.stderr


KILLED_AT_THE_RENAME = """
import os, signal, sys
from pathlib import Path
import pellucid as pe
from pellucid import nn

dense = nn.Dense(2)
dense(pe.zeros((1, 3)))
dense.kernel.assign(pe.ones((3, 2)) * 5)
Path.replace = lambda *names: os.kill(os.getpid(), signal.SIGKILL)
nn.save_weights(dense, sys.argv[1])
"""


def test_a_process_killed_before_it_renames_leaves_the_old_file(tmp_path: Path):
    path, dense = tmp_path / "w.safetensors", nn.Dense(2)
    dense(pe.zeros((1, 3)))
    nn.save_weights(dense, path)
    before = numbers_of(dense)
    done = subprocess.run([sys.executable, "-c", KILLED_AT_THE_RENAME, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    nn.load_weights(dense, path)
    assert_same_bits(numbers_of(dense), before)
