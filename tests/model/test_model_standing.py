"""Named choices for weights of others: packed as one by one, step by step as at once, refused where they cannot be."""

import pytest
import torch

from ofasys_lite.errors import CardError, ShapeError
from ofasys_lite.model import EncoderDecoder, ModelConfig

SIZES = {
    "width": 16,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "heads": 2,
    "ffn": 24,
    "norm": "layernorm",
    "bias": True,
}
CHOICES = {
    "ofasys": {
        "positions": "untied",
        "places": 12,
        "grid_side": 3,
        "relative": "log",
        "relative_buckets": 4,
        "relative_span": 10,
        "entry": "kinds",
        "sublayer_norms": True,
        "mlp": "gelu",
    },
    "bart": {
        "positions": "learned",
        "places": 12,
        "entry": "norm",
        "norm_place": "after",
        "final_norm": False,
        "mlp": "relu",
    },
    "t5": {
        "positions": "none",
        "relative": "t5",
        "relative_buckets": 8,
        "relative_span": 16,
        "query_gain": 2.0,
        "mlp": "reglu",
    },
    "marian": {"positions": "sinusoidal", "places": 12, "norm_place": "after", "final_norm": False, "mlp": "silu"},
    "fairseq": {"positions": "sinusoidal_t2t", "places": 12, "entry": "norm"},
    "grouped": {"relative": "t5", "relative_buckets": 8, "relative_span": 16, "kv_heads": 1, "mlp": "geglu"},
}
RUNS = [(3, None), (4, (1, 2, 2)), (2, None), (5, None)]
LENGTHS = (9, 5)


def made(name: str) -> EncoderDecoder:
    torch.manual_seed(0)
    model = EncoderDecoder(ModelConfig(**SIZES, **CHOICES[name])).eval()  # type: ignore[arg-type]
    with torch.no_grad():  # tables begin with zeros
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


def positions(lengths: tuple[int, ...]) -> torch.Tensor:
    return torch.cat([torch.arange(n) for n in lengths]).unsqueeze(1).expand(-1, 3).contiguous()


@pytest.mark.parametrize("name", CHOICES)
def test_packed_is_one_by_one_with_gradients(name: str) -> None:
    model = made(name)
    runs = RUNS if name == "ofasys" else [(9, None), (5, None)]
    x_SD, y_TD = torch.randn(14, 16), torch.randn(7, 16)
    targets = (4, 3)

    def run(parts: list[tuple[slice, slice, tuple[int, ...], tuple[int, ...], list]]) -> tuple[torch.Tensor, list]:  # type: ignore[type-arg]
        model.zero_grad()
        found = []
        for source, target, lengths, written, own in parts:
            states = model.encode(x_SD[source], positions(lengths), lengths, own)
            cross = list(zip(written, lengths, strict=True))
            found.append(
                model.decode(
                    y_TD[target],
                    positions(written),
                    states,
                    positions(lengths),
                    lengths=written,
                    cross_lengths=cross,
                    source_runs=own,
                )
            )
        out = torch.cat(found)
        out.square().sum().backward()
        return out.detach(), [None if p.grad is None else p.grad.clone() for p in model.parameters()]

    whole = run([(slice(0, 14), slice(0, 7), LENGTHS, targets, list(runs))])
    cut = 3 if name == "ofasys" else 1
    parts = run(
        [
            (slice(0, 9), slice(0, 4), (9,), (4,), list(runs[:cut])),
            (slice(9, 14), slice(4, 7), (5,), (3,), list(runs[cut:])),
        ]
    )
    torch.testing.assert_close(whole[0], parts[0], atol=1e-5, rtol=1e-5)
    for one, two in zip(whole[1], parts[1], strict=True):
        torch.testing.assert_close(one, two, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", CHOICES)
def test_steps_with_beams_are_the_whole_target(name: str) -> None:
    model = made(name)
    runs = RUNS if name == "ofasys" else None
    x_SD, y_TD = torch.randn(14, 16), torch.randn(10, 16)
    with torch.no_grad():
        states = model.encode(x_SD, positions(LENGTHS), LENGTHS, runs)
        written = (5, 5)
        whole = model.decode(
            y_TD,
            positions(written),
            states,
            positions(LENGTHS),
            lengths=written,
            source_runs=runs,
            cross_lengths=list(zip(written, LENGTHS, strict=True)),
        ).view(2, 5, 16)
        cache = model.start(states, positions(LENGTHS), LENGTHS, source_runs=runs)
        for place in range(5):
            if place == 2:  # two rows of the first source, one of the second
                cache.reorder([0, 0, 1])
            rows = [0, 0, 1] if place >= 2 else [0, 1]
            step = model.step(y_TD.view(2, 5, 16)[rows, place], torch.full((len(rows), 3), place), cache)
            torch.testing.assert_close(step, whole[rows, place], atol=1e-5, rtol=1e-5)


def test_places_depend_on_the_order_of_rows() -> None:
    for name in CHOICES:
        model = made(name)
        x_SD = torch.randn(5, 16)
        with torch.no_grad():
            there = model.encode(x_SD, positions((5,)), (5,))
            back = model.encode(x_SD.flip(0), positions((5,)), (5,)).flip(0)
        assert (there - back).abs().max() > 1e-3, name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"positions": "learned"}, "places is 0"),
        ({"places": 4}, "places is 4, and nothing reads it"),
        ({"relative": "t5", "relative_span": 4}, "relative_buckets is 0"),
        ({"grid_side": 3}, "only with `positions: untied`"),
        ({"positions": "absolute"}, "`absolute` is not known"),
        ({"norm_place": "after", "sublayer_norms": True}, "sublayer_norms with norm_place"),
        ({"query_gain": 0.0}, "query_gain is 0"),
    ],
)
def test_what_cannot_be_meant_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(CardError, match=message):
        ModelConfig(**{**SIZES, **changes})  # type: ignore[arg-type]


def test_more_tokens_or_cells_than_there_are_places_are_refused() -> None:
    model = made("ofasys")
    with pytest.raises(ShapeError, match="a run of 13 tokens; this model knows 12 places"):
        model.encode(torch.randn(13, 16), positions((13,)), (13,))
    with pytest.raises(ShapeError, match="a grid of 1 x 1 x 4 cells"):
        model.encode(torch.randn(4, 16), positions((4,)), (4,), [(4, (1, 1, 4))])
