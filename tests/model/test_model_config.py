"""A model config says everything and refuses what cannot be built."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from ofasys_lite.errors import CardError
from ofasys_lite.model import ModelConfig, probe_precision, tensor_cores


def test_a_config_survives_json() -> None:
    config = ModelConfig(width=96, heads=6, kv_heads=2, mlp="gelu", rotary_sections=(2, 3, 3))
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_what_is_left_out_is_filled_in() -> None:
    config = ModelConfig(width=512, heads=8)
    assert (config.kv_heads, config.ffn, config.rotary_sections) == (8, 1408, (8, 12, 12))
    assert ModelConfig(width=512, mlp="gelu").ffn == 2048


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"norm": "layernrm"}, "did you mean `layernorm`"),
        ({"mlp": "maxout"}, "allowed: swiglu, gelu"),
        ({"width": 100, "heads": 8}, "multiple of 2 x heads = 16, for example 96"),
        ({"kv_heads": 3}, "allowed: 1, 2, 4, 8"),
        ({"rotary_sections": (1, 2, 3)}, "sum to half the head, 32"),
        ({"dropout": 1.0}, "below 1"),
        ({"encoder_layers": 0, "decoder_layers": 0}, "no layers"),
        ({"encoder_layers": -1}, "at least 0"),
        ({"heads": 0}, "at least 1"),
        ({"width": "512"}, "width is a whole number"),
        ({"bias": 1}, "true or false"),
        ({"dropout": "no"}, "dropout is a number"),
        ({"rotary_theta": 1.0}, "above 1"),
        ({"ffn": 0}, "often 4 x width"),
        ({"near_bias": -1.0, "qkv_bias": True}, "0 for none"),
        ({"near_bias": 8.0}, "qkv_bias: true"),
        ({"near_bias": 8.0, "qkv_bias": True, "qk_norm": True}, "no qk_norm"),
        ({"near_bias": 8.0, "bias": True, "positions": "none"}, "near_bias with positions `none`"),
    ],
)
def test_a_wrong_value_is_refused_with_what_is_allowed(changes: dict[str, object], message: str) -> None:
    with pytest.raises(CardError, match=message):
        ModelConfig(**changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes", [{}, {"cross_rotary": False}, {"source": "prefix", "encoder_layers": 0}, {"decoder_layers": 0}]
)
def test_an_export_is_read_without_the_switches_of_its_training(changes: dict[str, object]) -> None:
    made = ModelConfig(qkv_bias=True, near_bias=8.0, **changes)  # type: ignore[arg-type]
    assert ModelConfig.of_export({**made.to_dict(), "compile_blocks": True}) == made
    with pytest.raises(CardError, match="did you mean `width`"):
        ModelConfig.of_export({"widht": 512})


def test_an_unknown_key_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(CardError, match="did you mean `width`"):
        ModelConfig.from_dict({"widht": 512})
    with pytest.raises(CardError, match="three whole numbers"):
        ModelConfig.from_dict({"rotary_sections": "4,6,6"})


def test_the_package_itself_imports_no_torch() -> None:
    code = "import ofasys_lite, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_precision_is_measured_once_and_follows_from_the_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    assert probe_precision("cpu", 100) in ("fp32", "bf16")  # a width that no head of 64 divides
    threads: list[int] = []

    def seconds(device: torch.device, width: int) -> tuple[float, float]:
        threads.append(torch.get_num_threads())  # of two threads one may wait for a core
        return float(width), 10.0

    monkeypatch.setattr("ofasys_lite.model.probe._seconds", seconds)
    assert [probe_precision("cpu", width) for width in (11, 12, 13, 13)] == ["fp32", "bf16", "bf16", "bf16"]
    assert threads == [1, 1, 1]
    probe_precision.cache_clear()


def test_products_in_fp32_take_tf32_on_a_gpu_only_and_only_meanwhile() -> None:
    before = torch.get_float32_matmul_precision()
    for device, inside in (("cuda", "high"), ("cpu", before)):
        with tensor_cores(torch.device(device)):
            assert torch.get_float32_matmul_precision() == inside
        assert torch.get_float32_matmul_precision() == before
