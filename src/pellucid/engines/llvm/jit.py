"""How text becomes machine code that can be called: parse, optimise, emit, load.

Our code is explicitly vector, so LLVM's own vectorisers are off; no fast-math flag exists in the
text and fusion of floating-point operations is left at LLVM's standard, which fuses nothing that is
not written fused. A text may ask to stay as it is written: then a short list of passes cleans it up
and the order of its instructions is left alone. LLVM's work runs on a thread of its own, where
Python delivers no Ctrl-C: an interrupted caller leaves at once and LLVM's state stays whole.
"""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

from pellucid.core.error import CompileError
from pellucid.core.forking import Turn, held_across_forks
from pellucid.engines.llvm.library import llvm
from pellucid.engines.llvm.target import Isa, target_machine
from pellucid.engines.llvm.text import AS_WRITTEN

# Part of the cache key: raise it when the steps from text to object code change.
PIPELINE_VERSION = 2

T = TypeVar("T")

# LLVM works on one thread at a time anyway; held across a fork, it gives the child a whole LLVM.
# So whatever is LLVM's is made and dropped under it.
_LLVM = held_across_forks(threading.RLock(), Turn.LLVM)
_dropped: list[Any] = []


class Code:
    """Loaded machine code: addresses of functions; unloaded when the last holder lets go."""

    def __init__(self, tracker: Any, addresses: dict[str, int]) -> None:
        self._tracker = tracker
        self.addresses = addresses

    def __getitem__(self, name: str) -> int:
        return self.addresses[name]

    def __del__(self, _ending: Callable[[], bool] = sys.is_finalizing) -> None:
        if _ending():
            return
        _dropped.append(self._tracker)
        # A finalizer may run anywhere, under any lock: it does not wait. Whoever has LLVM unloads.
        if _LLVM.acquire(blocking=False):
            try:
                _unload()
            finally:
                _LLVM.release()

    def keep_forever(self) -> None:
        """Never unload it, for code that threads may be running when Python ends."""
        self._tracker.detach()


def compile_text(text: str, isa: Isa) -> bytes:
    """LLVM IR -> object code for `isa`. Raises CompileError with LLVM's words."""
    return _through_llvm(text, isa, lambda machine, module: machine.emit_object(module))


def optimised_ir(text: str, isa: Isa) -> str:
    """The IR after LLVM's passes, to be read."""
    return _through_llvm(text, isa, lambda machine, module: str(module))


def assembly(text: str, isa: Isa) -> str:
    """The instructions of `isa`, to be read; also for an `isa` this machine has not."""
    return _through_llvm(text, isa, lambda machine, module: machine.emit_assembly(module))


def load(code: bytes, names: Sequence[str]) -> Code:
    """Object code -> callable code; outside names resolve in this process (0.3 ms).

    Raises CompileError if one of `names`, or a name the code needs, is nowhere.
    """
    return uninterrupted(lambda: _link(code, names))


def uninterrupted(work: Callable[[], T]) -> T:
    """Run `work` to its end even if the caller is interrupted by Ctrl-C meanwhile."""
    if threading.current_thread() is not threading.main_thread():
        return work()
    outcome: list[T] = []
    failure: list[BaseException] = []
    done = threading.Event()

    def run() -> None:
        try:
            outcome.append(work())
        except BaseException as error:  # noqa: BLE001 (raised again by the caller)
            failure.append(error)
        finally:
            done.set()

    # Not a daemon: if the program ends now, a cache file under way is still finished.
    threading.Thread(target=run, name="pellucid-compile").start()
    done.wait()
    if failure:
        raise failure[0]
    return outcome[0]


_library_number = itertools.count()


def _through_llvm(text: str, isa: Isa, end: Callable[[Any, Any], T]) -> T:
    as_written = text.startswith(AS_WRITTEN)

    def made() -> T:
        machine = target_machine(isa)
        module = _parsed(text, machine)
        (_tidied if as_written else _optimised)(module, machine)
        return end(machine, module)

    def work() -> T:
        with _LLVM, _scheduling(not as_written):
            _unload()
            return made()

    return uninterrupted(work)


def _parsed(text: str, machine: Any) -> Any:
    try:
        # A context of its own: its types and constants go when the module goes.
        module = llvm().parse_assembly(text, llvm().create_context())
        module.triple = machine.triple
        module.data_layout = str(machine.target_data)
        module.verify()
    except RuntimeError as error:
        raise CompileError(f"kernel text: expected valid LLVM IR, got: {error}") from None
    return module


@contextmanager
def _scheduling(wanted: bool) -> Generator[None]:
    """Whether LLVM may reorder instructions. Its option is the process's: put back at the end."""
    if wanted:
        yield
        return
    llvm().set_option("", "-enable-misched=false")
    try:
        yield
    finally:
        llvm().set_option("", "-enable-misched=true")


def _optimised(module: Any, machine: Any) -> None:
    tuning = llvm().create_pipeline_tuning_options(speed_level=2)
    tuning.loop_vectorization = False
    tuning.slp_vectorization = False
    builder = llvm().create_pass_builder(machine, tuning)
    builder.getModulePassManager().run(module, builder)


def _tidied(module: Any, machine: Any) -> None:
    """Inline what asks for it, fold numbers, drop empty blocks: a tenth of the time of all."""
    builder = llvm().create_pass_builder(machine, llvm().create_pipeline_tuning_options())
    passes = llvm().create_new_module_pass_manager()
    passes.add_always_inliner_pass()
    passes.add_instruction_combine_pass()
    passes.add_simplify_cfg_pass()
    passes.run(module, builder)


def _link(code: bytes, names: Sequence[str]) -> Code:
    with _LLVM:
        _unload()
        return _linked(code, names)


def _unload() -> None:
    """Unload the code that nobody holds any more; LLVM is ours."""
    while _dropped:
        _dropped.pop().close()


def _linked(code: bytes, names: Sequence[str]) -> Code:
    builder = llvm().JITLibraryBuilder().add_object_img(code).add_current_process()
    for name in names:
        builder.export_symbol(name)
    try:
        tracker = builder.link(_linker(), f"kernel{next(_library_number)}")
    except RuntimeError as error:
        wanted = ", ".join(names)
        raise CompileError(
            f"loading {wanted}: expected every name in the code or this process: {error}"
        ) from None
    return Code(tracker, {name: tracker[name] for name in names})


@cache
def _linker() -> Any:
    # Its errors come back as exceptions; nothing is printed.
    return llvm().create_lljit_compiler(use_jit_link=True, suppress_errors=True)
