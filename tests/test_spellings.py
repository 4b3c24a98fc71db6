"""Is who writes another framework's name told what to write here, and is that there?"""

from __future__ import annotations

import importlib
import re
from types import ModuleType

import pytest

import pellucid as pe
from pellucid.nn import spellings

TABLES = {
    "pellucid.nn": spellings.LAYERS,
    "pellucid.nn.functional": spellings.FUNCTIONS,
    "pellucid.nn.losses": spellings.LOSSES,
    **{
        name: vars(importlib.import_module(name))["_REWRITES"]
        for name in ("pellucid.optim", "pellucid.optim.schedules", "pellucid.train",
                     "pellucid.data", "pellucid.metrics")
    },
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_a_name_of_another_framework_is_answered_with_the_rewrite(name: str):
    module = importlib.import_module(name)
    for theirs, ours in TABLES[name].items():
        with pytest.raises(AttributeError) as caught:
            getattr(module, theirs)
        assert str(caught.value).endswith(f"has no attribute {theirs!r}; write {ours}")
    with pytest.raises(AttributeError, match=rf"'{name}' has no attribute 'nonsense'$"):
        module.nonsense  # noqa: B018


@pytest.mark.parametrize("name", TABLES)
def test_what_a_rewrite_names_is_there(name: str):
    roots: dict[str, object] = {"pe": pe, "nn": pe.nn, "optim": pe.optim, "train": pe.train}
    roots |= {"metrics": pe.metrics, "schedules": pe.optim.schedules}
    for ours in TABLES[name].values():
        for path in re.findall(rf"\b(?:{'|'.join(roots)})(?:\.\w+)+", ours):
            first, *rest = path.split(".")
            found = roots[first]
            for part in rest:
                assert hasattr(found, part), ours
                found = getattr(found, part)
            assert not isinstance(found, ModuleType) or name == "pellucid.nn"
