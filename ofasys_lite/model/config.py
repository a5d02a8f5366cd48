"""Sizes and switches of the encoder-decoder, checked when they are written down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from ofasys_lite.errors import CardError, check_choice, check_keys, check_types

#: Of predictions; `auto` is one of the others.
PRECISIONS = ("fp32", "bf16", "int8", "auto")

NORMS = ("rmsnorm", "layernorm")
NORM_PLACES = ("before", "after")
#: Two factors, one of them through an activation: `swiglu`, `geglu`, `reglu`; the others are a linear layer, it, and
#: a linear layer.
GATED = ("swiglu", "geglu", "reglu")
MLPS = ("swiglu", "gelu", "gelu_tanh", "relu", "silu", "geglu", "reglu")
POSITIONS = ("rotary", "learned", "sinusoidal", "sinusoidal_t2t", "untied", "none")
#: Rows that a formula makes.
WAVES = ("sinusoidal", "sinusoidal_t2t")
RELATIVES = ("none", "log", "t5")
ENTRIES = ("plain", "norm", "kinds")
SOURCES = ("encoder", "prefix")
LAYOUTS = ("interleaved", "blocks", "axial")
_CHOICES = {
    "norm": NORMS,
    "norm_place": NORM_PLACES,
    "mlp": MLPS,
    "positions": POSITIONS,
    "relative": RELATIVES,
    "entry": ENTRIES,
    "rotary_layout": LAYOUTS,
    "source": SOURCES,
}
#: How, not what, a model computes: choices of a training, which belong to no export and may change on resume.
SWITCHES = ("gradient_checkpointing", "compile_blocks")
#: By what fresh weights are drawn: it means nothing to weights that are there.
DRAWN = ("near_bias",)


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Sizes and named choices of one encoder-decoder; a wrong value raises CardError with what is allowed.

    Attributes:
        width: Channels D of the residual stream.
        encoder_layers: Blocks that read the source; 0 makes a decoder-only model.
        decoder_layers: Blocks that write the target; 0 makes an encoder-only model.
        source: Who reads the source: the `encoder`, or the decoder itself, in front of each target as one causal stream
            (`prefix`, of a model without encoder).
        heads: Query heads H; each has width / heads channels.
        kv_heads: Key and value heads G, a divisor of `heads` (grouped queries, arXiv 2305.13245); None means `heads`.
        ffn: Channels inside the feed-forward layer; None means 4 x width for gelu and 8/3 x width (to 64) for swiglu.
        norm: `rmsnorm` or `layernorm` (about three times faster on a CPU).
        norm_epsilon: What norms add to the variance.
        norm_place: `before` each sublayer, or `after` what it adds was added (post-norm, as in BART).
        final_norm: Whether a norm stands behind the last block of a stack.
        sublayer_norms: Whether what attention gives, and what stands within the feed-forward layer, is normed too, and
            heads have gains (NormFormer, arXiv 2110.09456; OFASys).
        mlp: `swiglu`, `gelu` (about 1.3 times faster on a CPU), or what weights of others need: `geglu` (with tanh),
            `reglu`, `gelu_tanh`, `relu`, `silu`.
        bias: Whether linear layers and LayerNorms have biases.
        qkv_bias: Whether queries, keys and values have, where `bias` is false (Qwen2, arXiv 2407.10671).
        near_bias: Score of a key at its query's own place that fresh biases of queries and keys give; the farther away,
            the less. 0: biases begin at 0, and heads know nothing of places until they are learned.
        dropout: Probability with which what a sublayer adds is dropped in training.
        query_gain: Factor of queries beside 1 / sqrt(channels); T5 has sqrt(channels).
        positions: How rows know where they are: `rotary`; `learned` or `sinusoidal` rows added to what is embedded
            (`sinusoidal_t2t`: the waves of tensor2tensor and fairseq, counted from 2);
            `untied`: learned rows whose products are added to the scores of all layers (TUPE, arXiv 2006.15595;
            OFASys); `none`. All but `rotary` count from the start of each run of tokens, or of each grid.
        places: Rows of the table of positions, and so the longest run of tokens.
        grid_side: Most lines and columns of a grid that the encoder reads (`untied`), 0 for none.
        relative: Biases of scores by distance within a run: `log`: a table per layer, and one for grids (OFASys);
            `t5`: one table for all layers of a stack (T5, arXiv 1910.10683).
        relative_buckets: Distances that are told apart, T5's or half of OFASys'.
        relative_span: Distance from which all are one (T5); OFASys: its longest sequence.
        entry: What is done to embedded rows: nothing (`plain`); a `norm`; a norm of each kind of rows, tokens or cells
            of a grid, and in the encoder a vector that says the kind (`kinds`, OFASys).
        rotary_theta: Base of the rotary frequency ladder.
        rotary_sections: Pairs of channels that turn by time, row and column (M-RoPE, arXiv 2409.12191); they sum to
            half the head; None means a quarter for time and three eighths each for row and column.
        rotary_layout: How the axes share the ladder of frequencies: `interleaved` gives each axis fast and slow ones
            (Qwen3-VL, arXiv 2511.21631), `blocks` gives time the fast and columns the slow ones (Qwen2-VL): there
            neighbouring columns of a small grid can hardly be told apart; `axial` gives each axis a ladder of its own.
        rotary_blank: Whether rows before time 0 get zeros in place of queries and keys, as the condition of the
            published DnD-Transformer does by accident; for comparisons with it only.
        cross_rotary: Whether cross-attention turns queries by target and keys by source position.
        qk_norm: Whether queries and keys are normalised per head before they turn.
        gradient_checkpointing: Whether training recomputes blocks in the backward pass instead of keeping them.
        compile_blocks: Whether each block goes through torch.compile.
    """

    width: int = 512
    encoder_layers: int = 6
    decoder_layers: int = 6
    source: str = "encoder"
    heads: int = 8
    kv_heads: int | None = None
    ffn: int | None = None
    norm: str = "rmsnorm"
    norm_epsilon: float = 1e-6
    norm_place: str = "before"
    final_norm: bool = True
    sublayer_norms: bool = False
    mlp: str = "swiglu"
    bias: bool = False
    qkv_bias: bool = False
    near_bias: float = 0.0
    dropout: float = 0.0
    query_gain: float = 1.0
    positions: str = "rotary"
    places: int = 0
    grid_side: int = 0
    relative: str = "none"
    relative_buckets: int = 0
    relative_span: int = 0
    entry: str = "plain"
    rotary_theta: float = 10000.0
    rotary_sections: tuple[int, int, int] | None = None
    rotary_layout: str = "interleaved"
    rotary_blank: bool = False
    cross_rotary: bool = True
    qk_norm: bool = False
    gradient_checkpointing: bool = False
    compile_blocks: bool = False

    def __post_init__(self) -> None:
        check_types("model", self)
        self._check_sizes()
        for name, allowed in _CHOICES.items():
            check_choice("model", name, getattr(self, name), allowed)
        self._check_places()
        self._check_prefix()
        if not 0.0 <= self.dropout < 1.0:
            raise CardError(f"model: dropout is {self.dropout}", help="write a number from 0 to below 1")
        if self.norm_epsilon <= 0.0:
            raise CardError(f"model: norm_epsilon is {self.norm_epsilon}", help="write a small number above 0, as 1e-6")
        self._check_near_bias()
        if self.rotary_theta <= 1.0:
            raise CardError(f"model: rotary_theta is {self.rotary_theta}", help="write a number above 1, often 10000")
        self._fill_in()

    def _check_near_bias(self) -> None:
        if not 0.0 <= self.near_bias < float("inf"):
            raise CardError(f"model: near_bias is {self.near_bias}", help="a score: 0 for none, often 8")
        if self.near_bias and not (self.bias or self.qkv_bias):
            raise CardError("model: near_bias without biases", help="write qkv_bias: true, or near_bias: 0")
        if self.near_bias and (self.positions != "rotary" or self.qk_norm):
            other = "qk_norm" if self.qk_norm else f"positions `{self.positions}`"
            raise CardError(f"model: near_bias with {other}", help="rotary positions, no qk_norm; or near_bias: 0")

    def _check_sizes(self) -> None:
        for name in ("width", "heads"):
            if getattr(self, name) < 1:
                raise CardError(f"model: {name} is {getattr(self, name)}", help=f"{name} is at least 1")
        for name in ("encoder_layers", "decoder_layers"):
            if getattr(self, name) < 0:
                raise CardError(f"model: {name} is {getattr(self, name)}", help=f"{name} is at least 0")
        if self.encoder_layers == 0 and self.decoder_layers == 0:
            raise CardError("model: it has no layers", help="give encoder_layers or decoder_layers at least 1")
        if self.width % (2 * self.heads):
            near = self.width // (2 * self.heads) * 2 * self.heads or 2 * self.heads
            raise CardError(
                f"model: width {self.width} does not split into {self.heads} heads of an even number of channels",
                help=f"width is a multiple of 2 x heads = {2 * self.heads}, for example {near}",
            )
        if self.kv_heads is not None and (self.kv_heads < 1 or self.heads % self.kv_heads):
            allowed = ", ".join(str(n) for n in range(1, self.heads + 1) if self.heads % n == 0)
            raise CardError(
                f"model: kv_heads {self.kv_heads} does not divide heads {self.heads}", help=f"allowed: {allowed}"
            )
        if self.ffn is not None and self.ffn < 1:
            raise CardError(f"model: ffn is {self.ffn}", help="ffn is at least 1, often 4 x width")

    def _check_places(self) -> None:
        """Tables need sizes, and sizes without a table would be ignored."""
        tables = self.positions in ("learned", "untied", *WAVES)
        needed = {
            "places": (tables, f"positions: {self.positions}"),
            "relative_buckets": (self.relative != "none", f"relative: {self.relative}"),
            "relative_span": (self.relative != "none", f"relative: {self.relative}"),
        }
        for name, (wanted, why) in needed.items():
            value = getattr(self, name)
            if wanted and value < 2:
                raise CardError(f"model: {name} is {value}", help=f"with `{why}` it is at least 2")
            if not wanted and value:
                raise CardError(f"model: {name} is {value}, and nothing reads it", help=f"leave it out with `{why}`")
        if self.grid_side < 0 or (self.grid_side and self.positions != "untied"):
            raise CardError(f"model: grid_side is {self.grid_side}", help="above 0 only with `positions: untied`")
        if self.query_gain <= 0.0:
            raise CardError(f"model: query_gain is {self.query_gain}", help="write a number above 0, often 1")
        if self.norm_place == "after" and self.sublayer_norms:
            raise CardError("model: sublayer_norms with norm_place `after`", help="they go with norm_place `before`")

    def _check_prefix(self) -> None:
        """A prefix is read by the decoder, and its rows turn as those behind it do."""
        if self.source != "prefix":
            return
        if self.encoder_layers or not self.decoder_layers:
            raise CardError(
                f"model: source is `prefix`, with {self.encoder_layers} + {self.decoder_layers} layers",
                help="the decoder reads a prefix: encoder_layers=0, decoder_layers above 0",
            )
        if self.positions not in ("rotary", "none") or self.relative != "none" or self.entry != "plain":
            other = next(
                f for f in ("positions", "relative", "entry") if getattr(self, f) not in ("rotary", "none", "plain")
            )
            raise CardError(
                f"model: source is `prefix`, and {other} is `{getattr(self, other)}`",
                help="a prefix goes with positions `rotary` or `none`, relative `none`, entry `plain`",
            )

    def _fill_in(self) -> None:
        """Replaces what was left to the default by its value, so that a stored config says everything."""
        half = self.head_width // 2
        if self.kv_heads is None:
            object.__setattr__(self, "kv_heads", self.heads)
        if self.ffn is None:
            gated = -(-self.width * 8 // (3 * 64)) * 64
            object.__setattr__(self, "ffn", gated if self.mlp in GATED else 4 * self.width)
        if self.rotary_sections is None:
            side = half * 3 // 8
            object.__setattr__(self, "rotary_sections", (half - 2 * side, side, side))
        sections = tuple(self.rotary_sections or ())
        whole = all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in sections)
        if len(sections) != 3 or not whole or sum(sections) != half:
            raise CardError(
                f"model: rotary_sections {list(sections)} do not fit heads of {self.head_width} channels",
                help=f"three whole numbers (time, row, column) that sum to half the head, {half}",
            )
        object.__setattr__(self, "rotary_sections", sections)

    @property
    def own(self) -> bool:
        """Whether blocks are this package's own: nothing is chosen that only weights of others need."""
        theirs = ("norm_place", "final_norm", "sublayer_norms", "query_gain", "positions", "relative", "entry")
        plain = all(getattr(self, f.name) == f.default for f in fields(self) if f.name in theirs)
        return plain and self.mlp in ("swiglu", "gelu")

    @property
    def head_width(self) -> int:
        """Channels of one head."""
        return self.width // self.heads

    @property
    def kv_groups(self) -> int:
        """Key and value heads G, `kv_heads` as a plain int."""
        return self.heads if self.kv_heads is None else self.kv_heads

    @property
    def inner(self) -> int:
        """Channels inside the feed-forward layer, `ffn` as a plain int."""
        return 4 * self.width if self.ffn is None else self.ffn

    @property
    def sections(self) -> tuple[int, int, int]:
        """Pairs of channels per axis (time, row, column), `rotary_sections` never None."""
        half = self.head_width // 2
        return self.rotary_sections if self.rotary_sections is not None else (half, 0, 0)

    def to_dict(self) -> dict[str, object]:
        """Plain values (numbers, strings, one list) that `from_dict` and JSON take."""
        values = asdict(self)
        values["rotary_sections"] = list(self.sections)
        return values

    def stored(self) -> dict[str, object]:
        """`to_dict` without the switches of how it is computed: what an export says of the model."""
        return {key: value for key, value in self.to_dict().items() if key not in SWITCHES}

    @classmethod
    def of_export(cls, values: Mapping[str, object]) -> ModelConfig:
        """What an export says of its model; older ones hold switches of their training, too."""
        return cls.from_dict({key: value for key, value in values.items() if key not in SWITCHES})

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> ModelConfig:
        """The config written by `to_dict`; an unknown key raises CardError with the nearest name."""
        check_keys("model", values, (field.name for field in fields(cls)))
        given = dict(values)
        sections = given.get("rotary_sections")
        if isinstance(sections, (list, tuple)):
            given["rotary_sections"] = tuple(sections)
        elif sections is not None:
            raise CardError(f"model: rotary_sections is {sections!r}", help="write three whole numbers, as [4, 6, 6]")
        return cls(**given)  # type: ignore[arg-type]
