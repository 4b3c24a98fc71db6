"""What happens when things go wrong? A named error that says what, where and what to do instead.

Never a crash, a wrong number or a lost file: what concerns the whole process (the cache on disk,
Ctrl-C, settings) is tried in a process of its own, which trains a little and prints what came out.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pellucid as pe
from pellucid import nn
from pellucid.core.error import (
    DataError,
    OpAxisError,
    OpIndexError,
    OpShapeError,
    OpTypeError,
    PellucidError,
    StateError,
    TracedBoolError,
)

ROOT = Path(__file__).parent.parent

X = pe.ones((2, 3))
WRONG: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "product of shapes": (lambda: X @ X, OpShapeError, r"dot_general: .*3 != 2.*\(2, 3\)"),
    "sum of shapes": (lambda: X + pe.ones((4,)), OpShapeError, r"add: .*\(2, 3\) and \(4,\)"),
    "axis": (lambda: pe.sum(X, axis=2), OpAxisError, "sum: axis 2 .* rank 2"),
    "axis twice": (lambda: pe.sum(X, axis=(0, 0)), OpAxisError, r"sum: .*twice in \(0, 0\)"),
    "order of axes": (lambda: X.transpose(0, 0), OpAxisError, r"transpose: .*got \(0, 0\)"),
    "elements": (lambda: X.reshape(4), OpShapeError, r"reshape: .*6 elements.* has 4"),
    "stretching": (lambda: pe.broadcast_to(X, (2, 4)), OpShapeError, "broadcast_to: .*3 != 4"),
    "squeezing": (lambda: pe.squeeze(X, axis=0), OpShapeError, "squeeze: .*size 1"),
    "dtype of an op": (lambda: X & X, OpTypeError, "bit_and: expected .*int8.* got float32"),
    "dtype of an array": (lambda: pe.asarray("one"), OpTypeError, "asarray: no|there is no dtype"),
    "ragged list": (lambda: pe.asarray([[1, 2], [3]]), OpTypeError, "asarray: cannot make"),
    "rank": (lambda: nn.Dense(3)(pe.asarray(1.0)), OpShapeError, "Dense: expected a feature axis"),
    "labels": (lambda: nn.losses.cross_entropy(X, pe.arange(3)), OpShapeError, "cross_entropy: "),
    "label too large": (
        lambda: nn.losses.cross_entropy(X, np.array([0, 3])),
        OpIndexError,
        r"cross_entropy: the label 3 at \[1\] is out of range: expected 0 to 2",
    ),
    "negative label": (
        lambda: nn.losses.cross_entropy(X, np.array([-1, 0])),
        OpIndexError,
        r"the label -1 at \[0\](.|\n)*one unit for each class",
    ),
    "number without a row": (
        lambda: nn.Embedding(4, 2)(np.array([[9]])),
        OpIndexError,
        r"Embedding: the number 9 at \[0, 0\] is out of range: expected 0 to 3",
    ),
    "batch without rows": (lambda: nn.losses.mse(X[:0], X[:0]), DataError, "mse: .* is empty"),
    "no labels": (
        lambda: nn.losses.cross_entropy(X[:0], pe.arange(0)),
        DataError,
        "cross_entropy: the batch is empty",
    ),
    "norm of no rows": (
        lambda: nn.BatchNorm()(X[:0]),
        DataError,
        r"BatchNorm: .*\(0, 3\) is empty",
    ),
    "size": (lambda: pe.zeros((-1,)), OpShapeError, r"got \(-1,\)"),
    "nothing to compare": (lambda: pe.max(pe.zeros((0,))), OpShapeError, "max: .*no maximum"),
    "assignment": (lambda: pe.Variable([1.0]).assign(X), OpShapeError, "assign: .*cannot hold"),
}
EVERY_MISTAKE = pytest.mark.parametrize("mistake", WRONG)

TRAINING = """
import warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import numpy as np
    import pellucid as pe
    from pellucid import nn, optim
    pe.random.seed(3)
    images, labels, _, _ = pe.data.digits()
    x, y = images[:64].reshape(64, 64), labels[:64]
    model = nn.Sequential([nn.Dense(32, activation="relu"), nn.Dense(10)])
    adam = optim.Adam(model, learning_rate=1e-2)

    @pe.jit
    def step(x, y):
        loss = nn.losses.cross_entropy(model(x), y)
        loss.backward()
        adam.step()
        return loss

"""
FIVE_STEPS = (
    TRAINING
    + """
    losses = [float(step(x, y)) for _ in range(5)]
print([loss.hex() for loss in losses])
for warning in caught:
    print(warning.category.__name__, warning.message)
"""
)


INTERRUPTING = """
    import os, signal, threading, time
    from pellucid.engines.llvm import cache
    from pellucid.tensor.cells import cells_of
    begun = cache.counters().compiled

    def state():
        return [np.array(cell.value) for cell in cells_of([model, adam]).values()]

    def same(lhs, rhs):
        return [one.tobytes() for one in lhs] == [one.tobytes() for one in rhs]

    def steps_until(ready):
        # How many steps were taken before Ctrl-C, which comes as soon as it is ready.
        begun = threading.Event()

        def interrupt():
            begun.wait()
            begin = time.perf_counter()
            while not ready(time.perf_counter() - begin):
                time.sleep(0)
            os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=interrupt).start()
        steps = 0
        try:
            begun.set()
            while True:
                step(x, y)
                steps += 1
        except KeyboardInterrupt:
            return steps
"""


@EVERY_MISTAKE
def test_mistake_is_a_named_error_with_the_line(mistake: str) -> None:
    call, error, message = WRONG[mistake]
    with pytest.raises(error, match=message) as caught:
        call()
    assert isinstance(caught.value, PellucidError)
    assert "test_bad_input.py:" in str(caught.value)


@EVERY_MISTAKE
def test_mistake_under_jit_is_the_same_error_with_the_line(mistake: str) -> None:
    call, error, message = WRONG[mistake]
    with pytest.raises(error, match=message) as caught:
        pe.jit(call)()
    assert "test_bad_input.py:" in str(caught.value)


def test_labels_that_compiled_code_does_not_know_make_the_loss_nan() -> None:
    loss = pe.jit(lambda labels: nn.losses.cross_entropy(X, labels))
    assert np.isnan([float(loss(np.array(bad))) for bad in ([0, 3], [-1, 0])]).all()
    assert np.isfinite(float(loss(np.array([0, 2]))))


def test_after_a_mistake_the_next_call_works() -> None:
    total = pe.Variable(0.0)

    @pe.jit
    def add(x: Any) -> Any:
        total.assign(total + pe.sum(x))
        return x @ X

    with pytest.raises(OpShapeError):
        add(X)
    assert total.item() == 0
    assert add(pe.ones((1, 2))).shape == (1, 3)
    assert total.item() == 2


def test_if_on_a_traced_value_says_what_to_write() -> None:
    def choose(x: Any) -> Any:
        return x if pe.sum(x) > 1 else -x

    with pytest.raises(TracedBoolError, match=r"test_bad_input.py(.|\n)*pe\.where"):
        pe.jit(choose)(X)


def test_layer_without_units_is_refused() -> None:
    with pytest.raises(StateError, match="Dense: expected at least 1 unit, got 0"):
        nn.Dense(0)


@pytest.mark.parametrize("jitted", [False, True])
@pytest.mark.parametrize(
    "call",
    [
        lambda: pe.zeros((1 << 45,)) + 1,
        lambda: pe.zeros((1 << 32, 1 << 32)),
        lambda: pe.ones((1 << 23, 1)) @ pe.ones((1, 1 << 23)),
        lambda: pe.exp(pe.broadcast_to(pe.ones(()), (1 << 31, 1 << 30))),
    ],
    ids=["elements", "beyond addresses", "product", "stretched"],
)
def test_more_memory_than_there_is_is_a_memory_error(call: Callable[[], Any], jitted: bool) -> None:
    with pytest.raises(MemoryError, match=r"no memory for \d+ bytes|larger than any memory"):
        (pe.jit(call) if jitted else call)()
    assert (pe.ones((3,)) + 1).tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    ("name", "value", "error", "allowed"),
    [
        ("THREADS", "abc", "ConfigError", "a whole number, got 'abc'"),
        ("THREADS", "0", "ConfigError", "at least 1, got 0"),
        ("ISA", "avx1024", "ConfigError", "avx512bf16, avx512vnni, avx512, avx2, sse2"),
        ("DEVICE", "tpu", "DeviceError", "cpu, reference"),
        ("CACHE_BYTES", "much", "ConfigError", "a whole number, got 'much'"),
    ],
)
def test_setting_that_cannot_be_is_refused(name: str, value: str, error: str, allowed: str) -> None:
    done = child("import pellucid as pe; print(pe.ones((300, 300)) @ pe.ones((300, 300)))",
                 **{name: value})  # fmt: skip
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert re.match(rf"pellucid\.core\.error\.{error}: .*{allowed}", last), done.stderr
    assert value in last


def test_damaged_entries_are_compiled_again_and_never_run(wanted: str, tmp_path: Path) -> None:
    place = tmp_path / "kernels"
    assert output(FIVE_STEPS, CACHE_DIR=str(place)) == wanted
    files = sorted(place.glob("*.o"))
    whole = {file: file.read_bytes() for file in files}
    assert len(files) > 8
    damages: list[Callable[[Path], object]] = [
        lambda file: file.write_bytes(whole[file][:-7]),
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(flipped(whole[file])),
        lambda file: file.write_bytes(whole[files[0]]),
        lambda file: file.write_bytes(Path(sys.executable).read_bytes()[:5000]),
        lambda file: file.write_bytes(os.urandom(3000)),
    ]
    for number, file in enumerate(files[1:]):
        damages[number % len(damages)](file)
    assert output(FIVE_STEPS, CACHE_DIR=str(place)) == wanted
    assert {file: file.read_bytes() for file in sorted(place.glob("*.o"))} == whole


def test_directory_that_cannot_be_made_is_one_warning(wanted: str) -> None:
    warned(output(FIVE_STEPS, CACHE_DIR="/proc/pellucid/kernels"), wanted, "cannot make")


def test_directory_that_others_can_write_is_one_warning(wanted: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    warned(output(FIVE_STEPS, CACHE_DIR=str(tmp_path)), wanted, "can be written by others")
    assert not list(tmp_path.iterdir())


def test_file_in_place_of_the_directory_is_one_warning(wanted: str, tmp_path: Path) -> None:
    file = tmp_path / "kernels"
    file.write_text("mine")
    warned(output(FIVE_STEPS, CACHE_DIR=str(file)), wanted, "is not a directory")
    assert file.read_text() == "mine"


def test_disk_without_room_is_one_warning(wanted: str, tmp_path: Path) -> None:
    # The system refuses to write more than so much to a file: what a full disk does, for real.
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (900, 900))\n"
    place = tmp_path / "kernels"
    warned(output(limit + FIVE_STEPS, CACHE_DIR=str(place)), wanted, "cannot write")
    assert not list(place.iterdir())


def test_interrupted_compilation_leaves_everything_whole(wanted: str, tmp_path: Path) -> None:
    interruption = """
    before = state()
    assert steps_until(lambda seconds: cache.counters().compiled >= begun + 3) == 0
    assert same(state(), before)
"""
    found = output(with_interrupts(interruption), CACHE_DIR=str(tmp_path / "kernels"))
    assert found == wanted


def test_interrupted_steps_are_taken_as_a_whole_or_not_at_all(wanted: str) -> None:
    """Ctrl-C at many moments: the state is that of some number of whole steps."""
    interruption = """
    first = float(step(x, y))
    moments = [state()]
    for _ in range(600):  # more than a busy machine takes before it lets the interrupt through
        step(x, y)
        moments.append(state())
    for turn in range(60):
        for cell, array in zip(cells_of([model, adam]).values(), moments[0]):
            cell.assign(array)
        steps = steps_until(lambda seconds: seconds > turn / 2e4)
        assert any(same(state(), moment) for moment in moments[steps : steps + 2]), turn
    for cell, array in zip(cells_of([model, adam]).values(), moments[0]):
        cell.assign(array)
"""
    code = with_interrupts(interruption).replace("for _ in range(5)", "for _ in range(4)")
    assert output(code.replace("print([", "losses = [first, *losses]\nprint([")) == wanted


def test_interrupt_in_a_finalizer_is_not_lost(wanted: str) -> None:
    """Memory goes back to its pool in finalizers, where Python swallows what is raised."""
    interruption = """
    class Dying:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(1000):
                pass
    first = float(step(x, y))
    for _ in range(20):
        try:
            Dying()
            time.sleep(5)
        except KeyboardInterrupt:
            continue
        raise AssertionError("the interrupt was lost")
"""
    code = with_interrupts(interruption).replace("for _ in range(5)", "for _ in range(4)")
    assert output(code.replace("print([", "losses = [first, *losses]\nprint([")) == wanted


def test_fork_while_kernels_run(wanted: str) -> None:
    forking = """
    import os, threading
    big = pe.ones((600, 600))
    busy = threading.Thread(target=lambda: [big @ big for _ in range(60)])
    busy.start()
    (big @ big).numpy()
    child = os.fork()
    if child == 0:
        first = float(step(x, y)).hex()
        os._exit(0 if (big @ big).numpy()[0, 0] == 600 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    busy.join()
"""
    code = FIVE_STEPS.replace("    losses =", forking + "    losses =")
    found = output(code, THREADS="3")
    assert found.splitlines()[0] == wanted.splitlines()[0]


@pytest.fixture(scope="module")
def wanted() -> str:
    """What the training prints where nothing goes wrong."""
    found = output(FIVE_STEPS)
    assert len(found.splitlines()) == 1
    return found


def warned(found: str, wanted: str, why: str) -> None:
    """The numbers are right, and there is one CacheWarning that says why and what to do."""
    numbers, *warnings = found.splitlines()
    assert numbers == wanted.strip()
    assert len(warnings) == 1, found
    assert warnings[0].startswith("CacheWarning machine code cache: ")
    assert why in warnings[0]
    assert "PELLUCID_CACHE_DIR" in warnings[0]


def output(code: str, **settings: str) -> str:
    """What a process prints that must end well and complain about nothing."""
    done = child(code, **settings)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def child(code: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    environment |= {f"PELLUCID_{name}": value for name, value in settings.items()}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )


def with_interrupts(code: str) -> str:
    """The training with Ctrl-C before its steps."""
    return FIVE_STEPS.replace("    losses =", INTERRUPTING + code + "    losses =")


def flipped(content: bytes) -> bytes:
    """One bit of the code, somewhere in the middle, the other way round."""
    at = len(content) // 2
    return content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :]
