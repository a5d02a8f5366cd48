"""`start.text=FOLDER`: an encoder-decoder of text, or an encoder, becomes the body of a run, with its vocabulary."""

from __future__ import annotations

from pathlib import Path

from ofasys_lite.errors import CheckpointError
from ofasys_lite.generalist.parts import Body
from ofasys_lite.interop.decoder_weights import DECODERS
from ofasys_lite.interop.hugging_face import HOUSES
from ofasys_lite.interop.hugging_face_folder import licence_of
from ofasys_lite.interop.importing import import_model
from ofasys_lite.preprocess.base import TOKEN_ADAPTER

#: Names of a network that an encoder alone does not fill.
_DECODER = ("body.decoder",)


def text_part(source: str) -> Body:
    """The model in a folder of Hugging Face (`interop/hugging_face.py`, `interop/encoders.py`) or a file of fairseq.

    Its sizes are those of the run; of an encoder alone the decoder begins fresh, with as many layers as the preset has.

    Raises:
        CheckpointError: There is no such folder, it is of another house, lacks its text model, or does not fit.
    """
    folder = Path(source).expanduser()
    if not folder.exists():
        houses = ", ".join(dict.fromkeys((*HOUSES.values(), *DECODERS.values())))
        raise CheckpointError(
            f"{source}: no such folder; nothing is fetched here",
            help=f"a folder of save_pretrained (config.json, weights, text model) of {houses}, or a file of fairseq; "
            f"where there is a network: hf download {source if source.count('/') == 1 else 'NAME'} --local-dir FOLDER",
        )
    if (folder / "export" / "config.json").is_file():
        raise CheckpointError(f"{source} is a run of this package", help=f"begin with the whole of it: start={source}")
    imported = import_model(folder)
    network, vocabulary = imported.generalist.network, imported.generalist.vocabulary
    further = [name for name in network.adapters if name != TOKEN_ADAPTER]
    if further:
        raise CheckpointError(
            f"{source}: {imported.house} brings more than text: {', '.join(further)}",
            help="import it as a whole, and begin with that: ofasys-lite import ... --to runs/x; start=runs/x",
        )
    if vocabulary.model == b"":
        raise CheckpointError(
            f"{source} holds no text model, and without it its ids mean nothing",
            help="copy it beside the weights: tokenizer.json, spiece.model, or vocab.json and merges.txt, or vocab.txt",
        )
    alone = not network.config.decoder_layers
    notes = []
    if network.config.places:
        most = network.config.places
        notes.append(f"{most} rows at most stand beside each other: words and texts of a line, one picture, one sound")
    return Body(
        house=imported.house,
        source=source,
        config=network.config,
        free=("decoder_layers",) if alone else (),
        advised=("dropout",),
        settings=network.specs[TOKEN_ADAPTER].settings,
        vocabulary=vocabulary,
        state=network.plain_weights(),
        origins=imported.origins,
        left=imported.left,
        fresh=_DECODER if alone else (),
        licence=licence_of(folder if folder.is_dir() else folder.parent),
        notes=tuple(notes),
    )
