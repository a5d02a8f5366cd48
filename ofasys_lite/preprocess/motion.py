"""MOTION: clips of a skeleton or of sensors as rows of numbers, normalised in a way that can be undone.

Shapes: T frames, C numbers of a frame, P rows, G frames of a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ofasys_lite.errors import DataError
from ofasys_lite.plan.constraints import Whole
from ofasys_lite.plan.segments import Options, option
from ofasys_lite.preprocess import kinds
from ofasys_lite.preprocess.base import READ, Context, Look, Piece, Preprocess, RowContext, Size, line_positions
from ofasys_lite.preprocess.clips import Clip, Floats, count_frames, located, read_clip, save_clip
from ofasys_lite.preprocess.continuous import given_rows, some_rows, value_piece, with_given
from ofasys_lite.preprocess.kinds import Shown
from ofasys_lite.preprocess.media import elsewhere, found
from ofasys_lite.preprocess.motion_settings import MotionSettings, Values, found_settings
from ofasys_lite.preprocess.motion_spans import cut_clip, frames_kept, wrong_span


class MotionPreprocess(Preprocess):
    """Clips, read and written.

    A piece's `values` (P, G * C) are numbers of frames less `mean`, over `deviation`; `known` tells rows of which the
    model is told the numbers. Settings and attributes: the card, `modalities/motion.yaml`.
    """

    kind: ClassVar[str] = kinds.NUMBERS
    ending: str = ".csv"
    typical: ClassVar[Size] = (100,)

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.own = MotionSettings.of(context.settings)
        if self.own.skeleton is not None:
            self.ending = ".bvh"

    def encode(self, value: Any, options: Options, known: RowContext) -> Piece:
        """The piece of a clip.

        Raises:
            DataError: No clip, broken, too short or too large, of another skeleton or number of channels, or with
                frames that are not known where nothing says what to do with them.
        """
        rng = known.rng if known.train else None
        own = self.own
        clip = own.fitting(read_clip(value, self.context.folder, own.limits, own.skeleton))
        written = known.side == "target"
        clip = cut_clip(clip, options, own.up, rng, own.longest if written else None)
        values_PC, missing_P = self._rows(clip.frames_TC)
        if not known.own_holes:
            all_known(clip, options)
        if missing_P.all():
            raise DataError("cannot read motion: none of its frames is known", help="leave the row out")
        adapter, positions_P3 = self.context.adapter, line_positions(len(values_PC))
        if not written:
            hidden_P = self._hidden(missing_P, options, known)
            shown_PC = np.where((missing_P | hidden_P)[:, None], 0, values_PC)
            piece = value_piece(adapter, shown_PC, positions_P3, ~(missing_P | hidden_P), 0)
            return replace(piece, arrays={**piece.arrays, "mask": hidden_P}) if hidden_P.any() else piece
        told_P = np.zeros(len(values_PC), np.bool_)
        if rng is not None and option(options, "use_mask"):
            told_P = some_rows(len(values_PC), rng) & ~missing_P
            told_P &= (~missing_P & ~told_P).any()  # something is left to be learned
        piece = value_piece(adapter, values_PC, positions_P3, told_P, own.most)
        return with_given(piece, told_P, ~missing_P) if missing_P.any() else piece

    def _rows(self, frames_TC: Floats) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """((P, G * C) normalised, 0 where nothing is known; (P,) rows with a number that is not known)."""
        group = self.own.frames_per_row
        mean_C, deviation_C = self.own.scale()
        values_TC = (frames_TC - mean_C) / deviation_C
        rest = -len(values_TC) % group
        values_PC = np.concatenate([values_TC, values_TC[-1:].repeat(rest, 0)]).reshape(-1, group * len(mean_C))
        missing_P = np.isnan(values_PC).any(1)
        return np.nan_to_num(values_PC).astype(np.float32), missing_P

    def _hidden(self, missing_P: npt.NDArray[np.bool_], options: Options, known: RowContext) -> npt.NDArray[np.bool_]:
        """(P,) rows of a source that the target is to fill in: drawn, or those that are not known (`own_holes`)."""
        ratio = option(options, "mask_ratio")
        hidden_P = np.zeros(len(missing_P), np.bool_)
        if not isinstance(ratio, (int, float)) or not ratio:
            return hidden_P
        if known.own_holes and missing_P.any():
            return missing_P
        if known.rng is None:
            raise TypeError("`mask_ratio` defines the task: encode needs a generator for it in every split")
        count = min(len(hidden_P), max(1, round(float(ratio) * len(hidden_P))))
        if option(options, "mask_style") == "frames":
            hidden_P[known.rng.permutation(len(hidden_P))[:count]] = True
        else:
            first = int(known.rng.integers(len(hidden_P) - count + 1))
            hidden_P[first : first + count] = True
        return hidden_P

    def rest(self, piece: Piece, hidden: Piece, rng: np.random.Generator | None) -> Piece:
        """The clip with loss on the rows that the source hides; the others are given."""
        given_P = hidden.arrays["mask"] == 0
        seen = hidden.arrays["values"]
        if len(seen) != piece.count or not np.allclose(seen[given_P], piece.arrays["values"][given_P], atol=1e-5):
            raise DataError(
                "the source hides a part of a clip that the target cuts in another way",
                help="give both slots the same attributes, without `window` and `soft_trim`",
            )
        return with_given(piece, given_P)

    def constraint(self, options: Options, known: RowContext) -> Whole:
        """All rows at once: as many as the model finds right, or those of the row's own clip, parts of it given."""
        adapter, own = self.context.adapter, self.own
        given_PC = self._given(options, known)
        if given_PC is not None:
            return Whole(adapter, _positions(len(given_PC)), given=given_PC)
        least = option(options, "min_length")
        rows = -(-least // own.frames_per_row) if isinstance(least, int) else 1
        most = option(options, "max_length")
        frames = min(most, own.most_frames) if isinstance(most, int) else own.most_frames
        return Whole(adapter, _positions(-(-frames // own.frames_per_row)), (("asked", True), ("least", rows)))

    def _given(self, options: Options, known: RowContext) -> Floats | None:
        """(P, G * C) what is known of the clip beforehand, NaN in the rows that are to be written; None: nothing."""
        if known.hidden is not None:
            hidden = known.hidden.arrays["mask"] > 0
            return given_rows(known.hidden.arrays["values"], ~hidden)
        if not option(options, "use_mask") or known.value is None:
            return None
        clip = self.own.fitting(read_clip(known.value, self.context.folder, self.own.limits, self.own.skeleton))
        values_PC, missing_P = self._rows(cut_clip(clip, options, self.own.up, None, self.own.longest).frames_TC)
        # a clip that is known whole is what the model is judged by
        return given_rows(values_PC, ~missing_P) if missing_P.any() else None

    def decode(self, ids: npt.NDArray[Any], options: Options, known: RowContext) -> Clip:
        """The clip of rows (P, G * C)."""
        own = self.own
        mean_C, deviation_C = own.scale()
        frames_TC = (ids.reshape(-1, len(mean_C)) * deviation_C + mean_C).astype(np.float32)
        rate = own.rate / frames_kept(options) if own.rate is not None else None
        return Clip(frames_TC, rate, own.skeleton, own.names)

    @classmethod
    def found_settings(cls, values: Iterable[Values], settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """Channels, skeleton, mean, deviation, rate, names, longest clip: what of them the card leaves open."""
        return found_settings(values, settings)

    @classmethod
    def check(cls, value: Any, options: Options, settings: Mapping[str, Any], known: RowContext = READ) -> None:
        """Raises DataError if `value` can hold no clip: missing, empty, of no known kind.

        Relative paths are looked up in `settings["folder"]`, and passed over if that is not given.
        """
        if not isinstance(value, str) or not elsewhere(value, settings):
            own = MotionSettings.of(settings)
            count = count_frames(value, settings.get("folder"))
            if count is None:
                raise DataError(f"cannot read motion: found {found(value)}", help="give a path, or a list (T, C)")
            if not count:
                raise DataError("cannot read motion: it has no frames", help="leave the row out")
            if count > own.limits.frames + 1:  # a head counts until it is read
                own.limits.check(count)

    @classmethod
    def check_options(cls, options: Options, settings: Mapping[str, Any]) -> None:
        """Raises CardError for settings that cannot be, and attributes that leave nothing."""
        MotionSettings.of(settings)
        wrong_span(options)

    @classmethod
    def look(
        cls, value: Any, options: Options, settings: Mapping[str, Any], known: RowContext = READ, whole: bool = False
    ) -> Look:
        """What is cut of it; `whole` reads its numbers."""
        if isinstance(value, str) and elsewhere(value, settings):
            return Look()
        folder, own = settings.get("folder"), MotionSettings.of(settings)
        frames = (count_frames(value, folder) or 0) // frames_kept(options)
        most = option(options, "max_length")
        cut = isinstance(most, int) and frames > most
        if whole:
            clip = own.fitting(read_clip(value, folder, own.limits, own.skeleton))
            all_known(cut_clip(clip, options, own.up, None), options)
        return Look(work=frames * 100, remarks=((f"max_length={most} cuts", f"{frames} frames"),) if cut else ())

    @classmethod
    def measure(cls, value: Any, folder: str | None) -> Size | None:
        """(frames,) of a file's header or of an array."""
        frames = count_frames(value, folder)
        return None if frames is None else (frames,)

    def rows_of(self, size: Size, options: Options) -> int:
        """Rows of a clip of that many frames."""
        most = option(options, "max_length")
        frames = size[0] // frames_kept(options)
        frames = min(frames, most) if isinstance(most, int) else frames
        return max(1, -(-frames // self.own.frames_per_row))

    @classmethod
    def located(cls, value: Any, folder: str | None) -> Any:
        """Bytes or path of the clip; numbers as they are."""
        return located(value, folder)

    @classmethod
    def read(cls, value: Any, options: Options, folder: str | None = None) -> Any:
        """The clip, cut as the slot's attributes say."""
        return cut_clip(read_clip(value, folder), options, 1, None)

    def show(self, value: Any) -> Shown | None:
        """A strip of the skeleton, or curves, and the same moving."""
        from ofasys_lite.preprocess.motion_pictures import moving, strip

        clip = read_clip(value, self.context.folder, self.own.limits, self.own.skeleton)
        return Shown(self.brief(clip), strip(clip, self.own.up), moving=moving(clip, self.own.up))

    def brief(self, value: Any) -> str:
        """`<motion of 60 frames, 2.0 s>`."""
        clip: Clip = value
        seconds = "" if clip.rate is None else f", {len(clip) / clip.rate:.1f} s"
        return f"<motion of {len(clip)} frames{seconds}>"

    @classmethod
    def place(cls, path: str | Path) -> Path:
        """Where a clip is written: `.bvh`, `.csv`, `.npy`, or `.gif` to be looked at."""
        place = Path(path)
        place = place if place.suffix else place.with_name(f"{place.name}{cls.ending}")
        if place.suffix.lower() not in _ENDINGS:
            raise DataError(f"cannot write {place}: no motion ends like that", help=f"write {', '.join(_ENDINGS)}")
        return place

    def save(self, value: Any, ending: str) -> bytes:
        """The content of a file: BVH of a skeleton, CSV, NPY, or a GIF."""
        if ending == ".gif":
            from ofasys_lite.preprocess.motion_pictures import moving

            return moving(value, self.own.up)
        return save_clip(value, ending)


def all_known(clip: Clip, options: Options) -> None:
    """Raises DataError for a clip with numbers that are not known where its slot does not expect any."""
    missing_T = np.isnan(clip.frames_TC).any(1)
    if missing_T.any() and not option(options, "use_mask"):
        raise DataError(
            f"cannot read motion: frame {int(missing_T.argmax())} has numbers that are not known",
            help="write `use_mask` in the slot, or leave the row out",
        )


_ENDINGS = (".bvh", ".csv", ".npy", ".gif")


def _positions(rows: int) -> tuple[Any, ...]:
    return tuple(map(tuple, line_positions(rows).tolist()))
