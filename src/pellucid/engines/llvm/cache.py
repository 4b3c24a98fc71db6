"""Has this text been compiled before? Object code by the hash of everything it depends on.

Two levels: what this process compiled or read, and files that outlive it (disk.py). Whatever cannot
be believed is compiled anew; a disk that cannot be used costs one CacheWarning and nothing else.
Whoever has a key of the same kind, naming all that something depends on, may store that here too.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
import warnings
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from weakref import WeakValueDictionary

from pellucid.core.config import integer_setting, setting
from pellucid.core.error import CacheWarning
from pellucid.engines.llvm import jit
from pellucid.engines.llvm.disk import Disk
from pellucid.engines.llvm.library import llvm_version
from pellucid.engines.llvm.target import Isa

_DISK_BYTES = 256 << 20
_MEMORY_BYTES = 64 << 20


@dataclass(frozen=True)
class Counters:
    """What happened since the process began; `seconds` is the time LLVM took."""

    memory_hits: int = 0
    disk_hits: int = 0
    compiled: int = 0
    dropped: int = 0
    seconds: float = 0.0

    @property
    def hits(self) -> int:
        """What was known: texts that were not compiled, programs that were not assembled."""
        return self.memory_hits + self.disk_hits

    @property
    def misses(self) -> int:
        """Texts that had to be compiled."""
        return self.compiled


class Cache:
    """Object code by key: in memory, then on disk, then compiled. Safe to share between threads."""

    def __init__(self, disk: Disk | None) -> None:
        self.counters = Counters()
        self._disk = disk
        self._lock = threading.RLock()
        self._known: OrderedDict[str, bytes] = OrderedDict()
        self._known_bytes = 0
        self._under_way: dict[str, Future[bytes]] = {}
        self._loaded: WeakValueDictionary[str, jit.Code] = WeakValueDictionary()
        self._warned = False

    def compile(self, text: str, isa: Isa) -> bytes:
        """Object code of `text`, compiled at most once however many threads ask."""
        key = cache_key(text, isa)
        with self._lock:
            code = self._known.get(key)
            if code is not None:
                self._known.move_to_end(key)
                self._count(memory_hits=1)
                return code
            under_way = self._under_way.get(key)
            future = under_way or self._under_way.setdefault(key, Future())
        if under_way is None:
            jit.uninterrupted(lambda: self._settle(future, key, text, isa))
            self._warn_of_disk()
        return future.result()

    def load(self, text: str, isa: Isa, names: tuple[str, ...]) -> jit.Code:
        """The callable code of `text`; equal texts share it while anyone holds it."""
        key = f"{cache_key(text, isa)}:{','.join(names)}"
        with self._lock:
            code = self._loaded.get(key)
        if code is None:
            code = self._share(key, jit.load(self.compile(text, isa), names))
        return code

    def recall(self, key: str, names: tuple[str, ...]) -> jit.Code | None:
        """The callable code that was once compiled under `key`, if it is still known."""
        loaded = f"{key}:{','.join(names)}"
        with self._lock:
            code = self._loaded.get(loaded)
        if code is not None:
            return code
        content = self.read(key)
        return None if content is None else self._share(loaded, jit.load(content, names))

    def recall_all(self, kernels: Sequence[tuple[str, str]]) -> tuple[jit.Code, ...] | None:
        """As `recall`, for each key with one name; None where one is not known any more."""
        found: list[jit.Code] = []
        for key, name in kernels:
            code = self.recall(key, (name,))
            if code is None:
                return None
            found.append(code)
        return tuple(found)

    def read(self, key: str) -> bytes | None:
        """What is stored under `key`, in memory or whole on disk."""
        with self._lock:
            content = self._known.get(key)
            if content is not None:
                self._known.move_to_end(key)
                self._count(memory_hits=1)
                return content
        content = self._from_disk(key)
        self._warn_of_disk()
        if content is not None:
            with self._lock:
                self._remember(key, content)
        return content

    def newest(self, key: str) -> bytes | None:
        """What was last stored under `key`, by whichever process; None once it is removed."""
        if self._disk is not None:
            found = self._disk.read(key)
            with self._lock:
                self._count(dropped=int(found.damaged))
            if not self._disk.trouble:
                return found.code
            self._warn_of_disk()
        with self._lock:
            return self._known.get(key)

    def store(self, key: str, content: bytes) -> None:
        """Keep `content` under `key`, which names all that it depends on."""
        with self._lock:
            self._remember(key, content)
        if self._disk is not None:
            self._disk.write(key, content)
            self._warn_of_disk()

    def renew_after_fork(self) -> None:
        """In a forked child: whoever held a lock or was compiling is not here any more."""
        self._lock = threading.RLock()
        self._under_way.clear()
        if self._disk is not None:
            self._disk.renew_after_fork()

    def _share(self, key: str, fresh: jit.Code) -> jit.Code:
        with self._lock:
            return self._loaded.setdefault(key, fresh)

    def _settle(self, future: Future[bytes], key: str, text: str, isa: Isa) -> None:
        # Whatever happens, those who wait learn of it, and the next caller starts afresh.
        try:
            code = self._from_disk(key) or self._compiled(key, text, isa)
        except BaseException as error:  # noqa: BLE001 (raised by future.result())
            with self._lock:
                del self._under_way[key]
            future.set_exception(error)
            return
        with self._lock:
            del self._under_way[key]
            self._remember(key, code)
        future.set_result(code)

    def _from_disk(self, key: str) -> bytes | None:
        if self._disk is None:
            return None
        found = self._disk.read(key)
        with self._lock:
            self._count(disk_hits=int(found.code is not None), dropped=int(found.damaged))
        return found.code

    def _compiled(self, key: str, text: str, isa: Isa) -> bytes:
        begin = time.perf_counter()
        code = jit.compile_text(text, isa)
        with self._lock:
            self._count(compiled=1, seconds=time.perf_counter() - begin)
        if self._disk is not None:
            self._disk.write(key, code)
        return code

    def _remember(self, key: str, code: bytes) -> None:
        self._known_bytes += len(code) - len(self._known.get(key, b""))
        self._known[key] = code
        while self._known_bytes > _MEMORY_BYTES and len(self._known) > 1:
            self._known_bytes -= len(self._known.popitem(last=False)[1])

    def _count(self, **changes: float) -> None:
        old = self.counters
        sums = {name: getattr(old, name) + change for name, change in changes.items()}
        self.counters = replace(old, **sums)

    def _warn_of_disk(self) -> None:
        if self._disk is not None and self._disk.trouble and not self._warned:
            self._warned = True
            warnings.warn(CacheWarning(self._disk.trouble), stacklevel=3)


def cache_key(text: str, isa: Isa) -> str:
    """The hash of all that object code depends on: text, pipeline, LLVM and features."""
    parts = (text, str(jit.PIPELINE_VERSION), llvm_version(), isa.features, isa.tuning)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def compile(text: str, isa: Isa) -> bytes:
    """Object code of `text`, through the process's cache."""
    return process_cache().compile(text, isa)


def load(text: str, isa: Isa, names: tuple[str, ...]) -> jit.Code:
    """Callable code of `text`, through the process's cache."""
    return process_cache().load(text, isa, names)


def counters() -> Counters:
    """What the process's cache did so far."""
    return process_cache().counters


def process_cache() -> Cache:
    """The cache of this process under the settings PELLUCID_CACHE, _CACHE_DIR, _CACHE_BYTES."""
    place = None if setting("CACHE", "1") == "0" else directory()
    limit = integer_setting("CACHE_BYTES", _DISK_BYTES)
    with _lock:
        cache = _caches.get((place, limit))
        if cache is None:
            cache = _caches[place, limit] = Cache(place and Disk(place, limit))
        return cache


def directory() -> Path:
    """Where the files live: PELLUCID_CACHE_DIR, or `pellucid` in the user's cache directory."""
    asked = setting("CACHE_DIR")
    if asked:
        return Path(asked)
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG specification: a relative path there is to be ignored.
    return (base if base.is_absolute() else Path.home() / ".cache") / "pellucid"


_lock = threading.Lock()
_caches: dict[tuple[Path | None, int], Cache] = {}


def _renew_after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    for cache in _caches.values():
        cache.renew_after_fork()


os.register_at_fork(after_in_child=_renew_after_fork)
