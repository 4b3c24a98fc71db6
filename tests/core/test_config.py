"""Are settings read, and refused by name where they cannot be?"""

from __future__ import annotations

import pytest

from pellucid.core.config import integer_setting, setting
from pellucid.core.error import ConfigError


def test_an_unset_or_empty_setting_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PELLUCID_ISA", raising=False)
    assert setting("ISA", "avx2") == "avx2"
    monkeypatch.setenv("PELLUCID_ISA", "")
    assert setting("ISA", "avx2") == "avx2"


def test_a_number_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PELLUCID_THREADS", "3")
    assert integer_setting("THREADS", 1) == 3


@pytest.mark.parametrize(
    ("text", "message"), [("two", "a whole number, got 'two'"), ("0", "at least 1, got 0")]
)
def test_what_is_no_number_is_refused(
    monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    monkeypatch.setenv("PELLUCID_THREADS", text)
    with pytest.raises(ConfigError, match=f"PELLUCID_THREADS: expected {message}"):
        integer_setting("THREADS", 1, at_least=1)
