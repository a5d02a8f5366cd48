"""A codec with finite scalar codes has the interface of one with residual codes, and its folder says which it is."""

from __future__ import annotations

import json
from pathlib import Path

import code_worlds as worlds
import pytest
import torch

from ofasys_lite.codec.image_codec import CodecConfig, ImageCodec, load_codec, save_codec
from ofasys_lite.errors import CardError
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.generalist.predicting import predict
from ofasys_lite.generalist.prediction import Request

SCALAR = CodecConfig(size=8, factor=2, depth=2, codes=24, channels=6, width=8, levels=(4, 3, 2))


def test_codes_of_a_scalar_codec_decode_to_what_its_pass_gave(tmp_path: Path) -> None:
    torch.manual_seed(0)
    codec = ImageCodec(SCALAR).eval()
    pixels = torch.randint(0, 256, (5, 8, 8, 3), dtype=torch.uint8)
    codes = codec.encode(pixels)
    assert codes.shape == (5, 16, 2)
    assert int(codes.max()) < 24
    out = codec(pixels).pixels_NCHW.permute(0, 2, 3, 1)
    want = ((out + 1) * 127.5).round().clamp(0, 255)
    assert (codec.decode(codes).float() - want).abs().max() <= 1  # sums in another order round otherwise
    again = load_codec(save_codec(codec, tmp_path))
    assert again.config == SCALAR
    assert torch.equal(again.encode(pixels), codes)
    assert torch.equal(again.decode(codes, 1), codec.decode(codes, 1))


def test_a_scalar_codec_learns() -> None:
    torch.manual_seed(0)
    codec = ImageCodec(SCALAR)
    optimizer = torch.optim.AdamW(codec.parameters(), lr=5e-3)
    pixels = torch.randint(0, 2, (32, 2, 2, 3), dtype=torch.uint8).mul(255)
    pixels = pixels.repeat_interleave(4, 1).repeat_interleave(4, 2)
    losses = []
    for _ in range(60):
        out = codec(pixels)
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
        losses.append(out.loss.item())
    assert losses[-1] < 0.3 * losses[0]


def test_a_model_is_trained_on_scalar_codes_saved_and_draws(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = CodecConfig(**worlds.SIZES, levels=(4, 2))
    folder = save_codec(ImageCodec(sizes).eval(), tmp_path / "codec")
    model = worlds.small_run([worlds.task("draw", folder)], tmp_path / "run", steps=2)
    again = Generalist.from_pretrained(tmp_path / "run" / "export")
    assert again.entry("draw").plan.hash == model.entry("draw").plan.hash
    requests = [Request("draw", {"cap": "a red square"}, str(n)) for n in range(2)]
    one, two = predict(model, requests), predict(again, requests)
    for first, second in zip(one, two, strict=True):
        assert first is not None
        assert second is not None
        assert first.codes["img"].shape == (16, 2)
        assert first.picture.tobytes() == second.picture.tobytes()


def test_residual_codecs_write_the_same_file_as_before_there_were_levels(tmp_path: Path) -> None:
    save_codec(ImageCodec(CodecConfig(size=8, factor=2, codes=4, channels=4, width=8)), tmp_path)
    assert "levels" not in json.loads((tmp_path / "codec.json").read_text())["codec"]


@pytest.mark.parametrize(("levels", "codes"), [((4, 4), 64), ((64, 1), 64)])
def test_levels_that_do_not_make_the_codes_are_refused(levels: tuple[int, ...], codes: int) -> None:
    with pytest.raises(CardError, match=f"do not make {codes} codes"):
        CodecConfig(codes=codes, levels=levels)
