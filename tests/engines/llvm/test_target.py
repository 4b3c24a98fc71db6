"""Instruction sets: chosen by the host's features, masked by the user, refused beyond the host."""

from __future__ import annotations

import pytest

from pellucid.core.error import ConfigError, DeviceError
from pellucid.engines.llvm import target
from pellucid.engines.llvm.target import AVX2, ISAS, SSE2, host_isa


@pytest.fixture
def host_without_avx512(monkeypatch: pytest.MonkeyPatch) -> None:
    has = frozenset(name.lstrip("+") for name in AVX2.features.split(","))
    monkeypatch.setattr(target, "host_features", lambda: has)
    monkeypatch.delenv("PELLUCID_ISA", raising=False)


@pytest.mark.usefixtures("host_without_avx512")
def test_the_widest_set_of_the_host_is_chosen() -> None:
    assert host_isa() == AVX2


@pytest.mark.usefixtures("host_without_avx512")
def test_the_user_may_ask_for_less(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PELLUCID_ISA", "sse2")
    assert host_isa() == SSE2


@pytest.mark.usefixtures("host_without_avx512")
def test_more_than_the_host_has_is_a_device_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PELLUCID_ISA", "avx512")
    with pytest.raises(DeviceError, match=r"missing: avx512f.*name at most avx2"):
        host_isa()


def test_an_unknown_set_is_a_config_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PELLUCID_ISA", "mmx")
    with pytest.raises(ConfigError, match="avx512bf16, avx512vnni, avx512, avx2, sse2, got 'mmx'"):
        host_isa()


def test_a_machine_without_any_is_a_device_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target, "host_features", frozenset)
    monkeypatch.delenv("PELLUCID_ISA", raising=False)
    with pytest.raises(DeviceError, match="x86-64"):
        host_isa()


def test_avx2_and_avx512_share_a_bit_class() -> None:
    assert [isa.bit_class for isa in ISAS] == ["fma", "fma", "fma", "fma", "sse2"]


def test_products_of_bfloat16_are_a_class_apart_in_one_set() -> None:
    assert [isa.name for isa in ISAS if isa.pairs_bfloat16] == ["avx512bf16"]
