"""What a device can do."""

import pytest
import torch

from facesyn.tensors import has_bf16


@pytest.mark.parametrize(
    ("abilities", "found"),
    [({"amx_bf16": True}, True), ({"avx512_bf16": True}, True), ({"bf16": True}, True), ({"avx2": True}, False)],
)
def test_a_processor_has_bfloat16_where_it_says_so(
    monkeypatch: pytest.MonkeyPatch, abilities: dict[str, bool], found: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: abilities, raising=False)
    assert has_bf16(torch.device("cpu")) == found


def test_a_torch_that_cannot_say_is_not_trusted_to_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not has_bf16(torch.device("cpu"))
