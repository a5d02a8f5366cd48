"""The network as search sees it: live rows that are fed one element at a time, keys of a source shared by its rows.

Shapes: B live rows, D width, V vocabulary, W ids asked for, S source rows.
"""

from __future__ import annotations

from torch import Tensor

from ofasys_lite.adapters.depth_heads import Choose, DepthWriter, Score
from ofasys_lite.decoding.session import CodeStep
from ofasys_lite.generalist.network import Network, merge_taps
from ofasys_lite.layout.pack import Stream


class NetworkSession:
    """Decoding with cached keys and values; a `ofasys_lite.decoding.Session`.

    Args:
        steps: Steps that are expected, if known: the cache is made for them.
    """

    def __init__(self, network: Network, source: Stream, states_SD: Tensor, steps: int | None = None) -> None:
        self.network, self.text, self.steps = network, network.text, steps
        self.cache = network.body.start(states_SD, source.positions_S3, source.lengths, steps)
        self._scorers: dict[str, list[Score] | None] = {}

    def advance(self, ids_B: Tensor, positions_B3: Tensor, codes: CodeStep | None = None) -> Tensor:
        """States (B, D) behind one more element per live row."""
        network = self.network
        x_BD = self.text.lookup(ids_B)
        if codes is None:
            return network.body.step(x_BD, positions_B3, self.cache)
        for name, (rows_R, codes_RK, places_R) in codes.fed.items():
            x_BD = x_BD.index_copy(0, rows_R, network.coder(name).fed(codes_RK, places_R).to(x_BD.dtype))
        writers = {name: self._writer(name, *said) for name, said in codes.write.items()}
        taps = merge_taps([writer.taps for writer in writers.values()])
        writing = sum(len(rows_R) for rows_R, _ in codes.write.values())
        states_BD = network.body.step(x_BD, positions_B3, self.cache, taps, normed=writing < len(ids_B))
        codes.written = {name: writer.codes() for name, writer in writers.items()}
        return states_BD

    def _writer(self, name: str, rows_R: Tensor, choose: Choose) -> DepthWriter:
        coder = self.network.coder(name)
        if name not in self._scorers:
            self._scorers[name] = coder.heads.scorers(self.steps)
        return coder.writer(None if len(rows_R) == self.cache.rows else rows_R, choose, self._scorers[name])

    def scores(self, states_BD: Tensor, ids_W: Tensor | None) -> Tensor:
        """Logits (B, V), or (B, W) of some ids only."""
        return self.text.scores(states_BD, ids_W).float()

    def select(self, rows: Tensor) -> None:
        """Row i becomes the continuation of row `rows[i]`."""
        self.cache.reorder(rows)
