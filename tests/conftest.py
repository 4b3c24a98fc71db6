"""What do all tests share? One cache of machine code beside the project, never the user's own, and
random examples that are the same from run to run.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# No deadline: the first example of a test may compile.
settings.register_profile("pellucid", deadline=None, derandomize=True)
settings.load_profile("pellucid")


def pytest_configure(config: pytest.Config) -> None:
    """Point pellucid, which reads it when it first compiles, and child processes to the cache."""
    os.environ.setdefault("PELLUCID_CACHE_DIR", str(config.rootpath / ".cache" / "kernels"))
