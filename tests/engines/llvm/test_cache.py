"""The cache of object code: equal texts once, files that are believed only when whole and ours."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest

from pellucid.core.error import CacheWarning, CompileError
from pellucid.engines.llvm import cache, jit
from pellucid.engines.llvm.cache import Cache, cache_key
from pellucid.engines.llvm.disk import Disk
from pellucid.engines.llvm.target import AVX2, SSE2
from pellucid.engines.llvm.text import Module
from pellucid.engines.llvm.types import I64

LIMIT = 1 << 20


def adding_text(amount: int = 1) -> str:
    module = Module(SSE2)
    f = module.function("add", I64, [("x", I64)])
    f.ret(f.add(f.parameters[0], amount))
    return module.text()


def fresh(place: Path, limit: int = LIMIT) -> Cache:
    """As a new process would have it."""
    return Cache(Disk(place, limit))


def entry(place: Path, text: str) -> Path:
    return place / f"{cache_key(text, SSE2)}.o"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_equal_texts_are_compiled_once(place: Path) -> None:
    mine = fresh(place)
    assert mine.compile(adding_text(), SSE2) == mine.compile(adding_text(), SSE2)
    assert (mine.counters.compiled, mine.counters.memory_hits) == (1, 1)


def test_another_process_finds_the_file(place: Path) -> None:
    code = fresh(place).compile(adding_text(), SSE2)
    other = fresh(place)
    assert other.compile(adding_text(), SSE2) == code
    assert (other.counters.compiled, other.counters.disk_hits) == (0, 1)


def test_the_key_depends_on_text_and_isa() -> None:
    keys = {cache_key(adding_text(n), isa) for n in (1, 2) for isa in (SSE2, AVX2)}
    assert len(keys) == 4


def test_the_directory_is_its_owners_alone(place: Path) -> None:
    fresh(place).compile(adding_text(), SSE2)
    assert place.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: content[:40],
        lambda content: b"",
        lambda content: content[:-10] + bytes([content[-10] ^ 1]) + content[-9:],
        lambda content: b"\x7fELF" + content[4:],
        lambda content: content + b"more",
    ],
    ids=["truncated", "header only", "empty", "one bit", "foreign", "longer"],
)
def test_a_damaged_entry_is_recompiled_and_mended(place: Path, damage) -> None:
    code = fresh(place).compile(adding_text(), SSE2)
    path = entry(place, adding_text())
    path.write_bytes(damage(path.read_bytes()))
    mender = fresh(place)
    assert mender.compile(adding_text(), SSE2) == code
    assert (mender.counters.compiled, mender.counters.dropped) == (1, 1)
    assert fresh(place).compile(adding_text(), SSE2) == code


def test_an_entry_under_a_wrong_name_is_not_run(place: Path) -> None:
    first = fresh(place)
    first.compile(adding_text(1), SSE2)
    entry(place, adding_text(1)).rename(entry(place, adding_text(2)))
    code = fresh(place).load(adding_text(2), SSE2, ("add",))
    assert ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(code["add"])(40) == 42


def test_a_directory_others_can_write_is_refused(place: Path) -> None:
    place.mkdir()
    place.chmod(0o777)
    mine = fresh(place)
    with pytest.warns(CacheWarning, match="can be written by others"):
        mine.compile(adding_text(), SSE2)
    assert not any(place.iterdir())


def test_a_directory_of_another_user_is_refused(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: place.stat().st_uid + 1)
    with pytest.warns(CacheWarning, match="belongs to another user"):
        fresh(place).compile(adding_text(), SSE2)


def test_a_place_that_cannot_be_made_warns_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    mine = fresh(tmp_path / "file" / "cache")
    with pytest.warns(CacheWarning, match="PELLUCID_CACHE_DIR"):
        mine.compile(adding_text(1), SSE2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mine.compile(adding_text(2), SSE2)
    assert mine.counters.compiled == 2


def test_a_full_disk_warns_and_work_goes_on(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Disk, "_place_file", full)
    with pytest.warns(CacheWarning, match="No space left"):
        assert fresh(place).compile(adding_text(), SSE2)


def test_a_directory_removed_meanwhile_is_made_again(place: Path) -> None:
    mine = fresh(place)
    mine.compile(adding_text(1), SSE2)
    entry(place, adding_text(1)).unlink()
    place.rmdir()
    mine.compile(adding_text(2), SSE2)
    assert entry(place, adding_text(2)).exists()


def test_the_least_recently_used_go_first(place: Path) -> None:
    mine = fresh(place)
    for amount in range(8):
        mine.compile(adding_text(amount), SSE2)
        os.utime(entry(place, adding_text(amount)), (1000 + amount, 1000 + amount))
    size = entry(place, adding_text(0)).stat().st_size
    assert fresh(place).compile(adding_text(0), SSE2)
    fresh(place, limit=4 * size).compile(adding_text(8), SSE2)
    left = [n for n in range(9) if entry(place, adding_text(n)).exists()]
    assert left == [0, 7, 8]


def test_what_a_killed_writer_left_is_removed(place: Path) -> None:
    mine = fresh(place)
    place.mkdir(mode=0o700)
    old, new = place / ".writing-old", place / ".writing-new"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (1, 1))
    mine.compile(adding_text(), SSE2)
    assert (old.exists(), new.exists()) == (False, True)


def test_many_threads_compile_a_text_once(place: Path) -> None:
    mine = fresh(place)
    codes: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: codes.append(mine.compile(adding_text(), SSE2)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(codes) == 8
    assert len(set(codes)) == 1
    assert mine.counters.compiled == 1


def test_a_failure_is_not_remembered(place: Path) -> None:
    mine = fresh(place)
    for _ in range(2):
        with pytest.raises(CompileError):
            mine.compile("nonsense", SSE2)
    assert mine.counters.compiled == 0


def test_equal_texts_share_their_loaded_code(place: Path) -> None:
    mine = fresh(place)
    first = mine.load(adding_text(), SSE2, ("add",))
    assert mine.load(adding_text(), SSE2, ("add",)) is first


def test_zero_turns_the_disk_off(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PELLUCID_CACHE", "0")
    monkeypatch.setenv("PELLUCID_CACHE_DIR", str(place))
    assert cache.compile(adding_text(77), SSE2)
    assert not place.exists()


def test_the_directory_follows_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("PELLUCID_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.directory() == tmp_path / "pellucid"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache.directory() == Path.home() / ".cache" / "pellucid"
    monkeypatch.setenv("PELLUCID_CACHE_DIR", str(tmp_path / "mine"))
    assert cache.directory() == tmp_path / "mine"


def two_processes(place: Path, texts: int, **settings: str) -> None:
    """Two processes compile the same texts into one cache, at once."""
    source = (
        "from tests.engines.llvm.test_cache import adding_text, SSE2\n"
        "from pellucid.engines.llvm import cache\n"
        f"print(len([cache.compile(adding_text(n), SSE2) for n in range({texts})]))\n"
    )
    environment = {**os.environ, **settings, "PELLUCID_CACHE_DIR": str(place)}
    root = Path(__file__).parents[3]
    environment["PYTHONPATH"] = os.pathsep.join([str(root), str(root / "src")])
    command = [sys.executable, "-W", "error", "-c", source]
    both = [
        subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)
        for _ in range(2)
    ]
    assert [process.communicate()[0].strip() for process in both] == [str(texts)] * 2


def test_two_processes_at_once_agree(place: Path) -> None:
    two_processes(place, 20)
    after = fresh(place)
    for amount in range(20):
        after.compile(adding_text(amount), SSE2)
    assert (after.counters.disk_hits, after.counters.dropped) == (20, 0)


@pytest.mark.slow
def test_two_processes_that_evict_at_once_keep_the_bound(place: Path) -> None:
    size = len(adding_entry(place.with_name("one")))
    two_processes(place, 200, PELLUCID_CACHE_BYTES=str(20 * size))
    # Each sums up the directory at least once in 64 writes, and counts its own in between.
    assert 0 < sum(path.stat().st_size for path in place.iterdir()) < (20 + 64) * size
    after = fresh(place)
    for amount in range(200):
        after.compile(adding_text(amount), SSE2)
    assert after.counters.disk_hits > 0
    assert after.counters.dropped == 0


def adding_entry(place: Path) -> bytes:
    """A whole entry, as it lies on disk."""
    fresh(place).compile(adding_text(), SSE2)
    return entry(place, adding_text()).read_bytes()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_compiles(place: Path) -> None:
    mine = fresh(place)
    stop = threading.Event()

    def keep_compiling() -> None:
        amount = 100
        while not stop.is_set():
            mine.compile(adding_text(amount), SSE2)
            amount += 1

    busy = threading.Thread(target=keep_compiling)
    busy.start()
    try:
        for _ in range(5):
            child = os.fork()
            if child == 0:
                mine.renew_after_fork()
                os._exit(0 if mine.compile(adding_text(5), SSE2) else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        stop.set()
        busy.join()


def test_code_is_loaded_through_the_process_cache() -> None:
    code = cache.load(adding_text(), SSE2, ("add",))
    assert isinstance(code, jit.Code)
    assert cache.counters().hits + cache.counters().misses > 0


def test_many_are_recalled_in_one_go_or_not_at_all(place: Path) -> None:
    texts = [adding_text(amount) for amount in (1, 2)]
    for text in texts:
        fresh(place).compile(text, SSE2)
    kernels = [(cache_key(text, SSE2), "add") for text in texts]
    found = fresh(place).recall_all(kernels)
    assert found is not None
    ways = [ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(code["add"]) for code in found]
    assert [way(40) for way in ways] == [41, 42]
    assert fresh(place).recall_all([*kernels, ("0" * 64, "add")]) is None
