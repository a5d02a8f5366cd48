"""Depth heads on the project's own decoder equal the published DnD-Transformer: logits, loss, gradients, codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ofasys_lite.adapters.depth_heads import DepthHeads
from ofasys_lite.decoding.depth_sampling import RowChoice, RowsChoice, guided
from ofasys_lite.errors import CardError, ShapeError
from ofasys_lite.model import EncoderDecoder, ModelConfig
from ofasys_lite.model.few_rows import WORTH

FIXTURES = Path(__file__).parents[1] / "fixtures" / "dnd"
SIDE = 4


class Published:
    """The published weights inside our decoder; positions are those of the published inputs."""

    def __init__(self, name: str) -> None:
        self.want: dict[str, Any] = torch.load(FIXTURES / f"{name}.pt", weights_only=True)
        given, state = self.want["config"], self.want["state_dict"]
        self.width, self.layers, self.count = given["dim"], given["n_layer"], given["n_head"]
        channels = self.width // self.count
        self.body = EncoderDecoder(
            ModelConfig(
                width=self.width,
                encoder_layers=0,
                decoder_layers=self.layers,
                heads=self.count,
                ffn=given["ffn_hidden"],
                norm_epsilon=given["norm_eps"],
                rotary_theta=float(given["rope_base"]),
                rotary_sections=(0, channels // 4, channels // 4),
                rotary_layout="axial",
                rotary_blank=True,
            )
        ).eval()
        size = given["vocab_size"]
        self.heads = DepthHeads(self.width, size, given["pred_head_positions"], self.layers, given["norm_eps"])
        self.start = torch.nn.Embedding(given["num_classes"] + 1, self.width)
        #: our parameter -> (published name, rows of it in our order)
        self.names: dict[str, list[tuple[str, Tensor | None]]] = {}
        self._fill(state, channels)

    def _fill(self, state: dict[str, Tensor], channels: int) -> None:
        # published pairs are neighbours, ours are halves: a permutation of the channels of queries and keys
        order = torch.cat([torch.arange(0, channels, 2), torch.arange(1, channels, 2)])
        heads = torch.arange(self.count)[:, None] * channels + order
        turned = torch.cat([heads.flatten(), self.width + heads.flatten(), 2 * self.width + torch.arange(self.width)])
        with torch.no_grad():
            for i, block in enumerate(self.body.decoder):
                own, layer = dict(block.named_parameters()), f"layers.{i}."
                own["attention.qkv.weight"].copy_(state[layer + "attention.wqkv.weight"][turned])
                own["attention.out.weight"].copy_(state[layer + "attention.wo.weight"])
                w1, w3 = (state[f"{layer}feed_forward.{w}.weight"] for w in ("w1", "w3"))
                own["mlp.into.weight"].copy_(torch.cat([w1, w3]))
                own["mlp.out.weight"].copy_(state[layer + "feed_forward.w2.weight"])
                own["attention_norm.weight"].copy_(state[layer + "attention_norm.weight"])
                own["mlp_norm.weight"].copy_(state[layer + "ffn_norm.weight"])
            for k in range(self.heads.depth):
                self.heads.norms[k].weight.copy_(state[f"norm.{k}.weight"])
                self.heads.heads[k].weight.copy_(state[f"output.{k}.weight"])
            self.heads.table.weight.copy_(state["tok_embeddings.weight"])
            self.start.weight.copy_(state["cls_embedding.embedding_table.weight"])

    def positions(self, rows: int) -> Tensor:
        """Row 0 is the condition, row t carries cell t - 1."""
        cells = torch.arange(rows) - 1
        found = torch.stack([torch.zeros_like(cells), cells // SIDE, cells % SIDE], 1)
        found[0] = -1
        return found

    def gradients(self) -> dict[str, float]:
        """Norms of the gradients, by published names."""
        found = {
            "cls_embedding.embedding_table.weight": self.start.weight,
            "tok_embeddings.weight": self.heads.table.weight,
        }
        for k in range(self.heads.depth):
            found[f"norm.{k}.weight"] = self.heads.norms[k].weight
            found[f"output.{k}.weight"] = self.heads.heads[k].weight
        norms = {name: float(p.grad.norm()) for name, p in found.items()}
        for i, block in enumerate(self.body.decoder):
            own, layer = dict(block.named_parameters()), f"layers.{i}."
            w1, w3 = own["mlp.into.weight"].grad.chunk(2)
            norms |= {
                f"{layer}feed_forward.w1.weight": float(w1.norm()),
                f"{layer}feed_forward.w3.weight": float(w3.norm()),
            }
            for theirs, ours in (
                ("attention.wqkv", "attention.qkv"),
                ("attention.wo", "attention.out"),
                ("feed_forward.w2", "mlp.out"),
                ("attention_norm", "attention_norm"),
                ("ffn_norm", "mlp_norm"),
            ):
                norms[f"{layer}{theirs}.weight"] = float(own[f"{ours}.weight"].grad.norm())
        return norms

    def forced(self) -> tuple[Tensor, Tensor]:
        """Teacher-forced logits (N, K, L, V) and the mean loss."""
        codes_NLK = self.want["codes"]
        count, length, depth = codes_NLK.shape
        first = self.start(self.want["cond"])[:, None]
        x_NLD = torch.cat([first, self.heads.inputs(codes_NLK[:, :-1].flatten(0, 1)).view(count, length - 1, -1)], 1)
        reading = self.heads.read(torch.arange(count * length), codes_NLK.flatten(0, 1))
        positions = self.positions(length).repeat(count, 1)
        self.body.decode(x_NLD.flatten(0, 1), positions, lengths=[length] * count, taps=reading.taps)
        logits = reading.logits().view(count, length, depth, -1).transpose(1, 2)
        return logits, reading.loss().mean()

    @torch.no_grad()
    def greedy(self, guidance: float) -> Tensor:
        """(N, L, K) codes of the first two conditions; a pair of live rows each."""
        null = self.want["config"]["num_classes"]
        x_BD = self.start(torch.tensor([c for cond in self.want["cond"][:2] for c in (int(cond), null)]))
        writer = self.heads.write(RowsChoice([RowChoice(cfg=guidance, paired=True)] * 2))
        cache = self.body.start(source_lengths=[0] * 4)
        positions, written = self.positions(SIDE**2), []
        for place in range(SIDE**2):
            self.body.step(x_BD, positions[place].expand(4, 3), cache, taps=writer.taps)
            written.append(writer.codes())
            x_BD = self.heads.inputs(writer.codes())
        codes = torch.stack(written, 1)
        assert torch.equal(codes[0::2], codes[1::2])  # both halves of a pair go on with the same code
        return codes[0::2]


@pytest.mark.parametrize("name", ["dnd_d1", "dnd_d2"])
def test_logits_loss_and_gradients_equal_the_published_ones(name: str) -> None:
    model = Published(name)
    logits, loss = model.forced()
    torch.testing.assert_close(logits, model.want["logits"], rtol=1e-5, atol=1e-5)
    assert loss.item() == pytest.approx(float(model.want["loss"]), rel=1e-5)
    loss.backward()
    found = model.gradients()
    assert found.keys() == model.want["grad_norms"].keys()
    assert found == pytest.approx({k: float(v) for k, v in model.want["grad_norms"].items()}, rel=1e-4)


@pytest.mark.parametrize("guidance", [1.0, 2.0])
@pytest.mark.parametrize("name", ["dnd_d1", "dnd_d2"])
def test_greedy_codes_equal_the_published_ones(name: str, guidance: float) -> None:
    model = Published(name)
    assert torch.equal(model.greedy(guidance), model.want[f"greedy_cfg{guidance}"])


def test_only_code_rows_are_fed_back() -> None:
    heads = DepthHeads(8, 5, [0, 1], 2)
    reading = heads.read(torch.tensor([1, 3]), torch.tensor([[0, 1], [2, 3]]))
    added = reading.taps[0](torch.zeros(5, 8))
    assert added is not None
    assert added[[0, 2, 4]].abs().max() == 0
    torch.testing.assert_close(added[[1, 3]], heads.table.weight[[0, 2]])


def test_every_depth_is_fed_its_own_code_and_the_last_none() -> None:
    heads = DepthHeads(8, 5, [0, 1, 2, 3], 4)
    codes_LK = torch.tensor([[0, 1, 2, 3], [4, 3, 0, 1]])
    reading = heads.read(torch.tensor([0, 1]), codes_LK)
    taps = reading.taps
    for k in range(3):
        added = taps[k](torch.zeros(2, 8))
        assert added is not None
        torch.testing.assert_close(added, heads.table.weight[codes_LK[:, k]])
    assert taps[3](torch.zeros(2, 8)) is None
    drawn = iter(codes_LK.t())
    writer = heads.write(lambda k, logits: next(drawn))
    taps = writer.taps
    for k in range(3):
        added = taps[k](torch.zeros(2, 8))
        assert added is not None
        torch.testing.assert_close(added, heads.table.weight[codes_LK[:, k]])
    assert taps[3](torch.zeros(2, 8)) is None
    assert torch.equal(writer.codes(), codes_LK)


def test_draws_keep_to_the_best_codes() -> None:
    draws = torch.rand(200, generator=torch.Generator().manual_seed(0)).tolist()
    logits = torch.tensor([[0.0, 5.0, 4.0, 1.0]]).repeat(200, 1)
    found = RowsChoice([RowChoice(temperature=1.0, top_k=2, draws=(drawn,)) for drawn in draws])(0, logits)
    assert set(found.tolist()) == {1, 2}


def test_wrong_layers_and_codes_are_refused() -> None:
    for layers in ([], [1, 1], [0], [0, 5]):
        with pytest.raises(CardError, match="depth heads behind layers"):
            DepthHeads(8, 5, layers, 2)
    heads = DepthHeads(8, 5, [0, 1], 2)
    with pytest.raises(ShapeError, match="depth 3, the heads have depth 2"):
        heads.inputs(torch.zeros(4, 3, dtype=torch.long))
    with pytest.raises(ShapeError, match="2 rows, codes of shape"):
        heads.read(torch.tensor([0, 1]), torch.zeros(3, 2, dtype=torch.long))
    with pytest.raises(ShapeError, match="no pairs"):
        guided(torch.zeros(3, 5), 2.0)


@torch.no_grad()
def test_laid_out_heads_score_as_the_heads_and_few_steps_are_not_worth_it() -> None:
    torch.manual_seed(0)
    heads = DepthHeads(256, 384, [0, 1], 2)
    for norm in heads.norms:
        norm.weight.normal_()  # type: ignore[operator, union-attr]
    x_BD = 5 * torch.randn(3, 256)
    scorers = heads.scorers(WORTH)
    assert scorers is not None
    for k, score in enumerate(scorers):
        torch.testing.assert_close(score(x_BD), heads.logits(k, x_BD), rtol=1e-4, atol=1e-4)
    plain, fast = (heads.write(lambda k, x: x.argmax(-1), scorers=s) for s in (None, scorers))
    for writer in (plain, fast):
        for layer, tap in writer.taps.items():
            tap(x_BD * (1 + layer))
    assert torch.equal(fast.codes(), plain.codes())
    assert heads.scorers(WORTH - 1) is None
    assert heads.scorers(None) is None
    assert heads.bfloat16().scorers(WORTH) is None
