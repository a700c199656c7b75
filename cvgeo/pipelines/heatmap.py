"""`cvgeo heatmap`: what makes a picture and its tile alike to models, as sheets and as GeoTIFF overlays."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cvgeo.config.load import load_model_config, preset_names
from cvgeo.config.schema import ViewConfig
from cvgeo.data.geotiff import geotiff_mark, write_tile_geotiff
from cvgeo.data.ground import parts
from cvgeo.data.images import encode_image, png_text, read_image, with_png_text
from cvgeo.data.sources.geotags import StatedPose
from cvgeo.data.views import aerial_view, to_tensor
from cvgeo.errors import CvgeoError, MismatchError, UsageError
from cvgeo.explain import attention, heat_sheet
from cvgeo.explain.gradcam import PairMaps, grad_cam
from cvgeo.explain.heat import overlay_rgba
from cvgeo.explain.heat_panels import Marks, ModelMaps, map_panels, tile_values
from cvgeo.geometry.panorama import GRID_BOTTOM, GRID_TOP
from cvgeo.geometry.polar import polar_transform
from cvgeo.geometry.shapes import square
from cvgeo.models import Embedder, fingerprint
from cvgeo.paths import atomic_file, file_sha256
from cvgeo.pipelines.ablate import RESULT
from cvgeo.pipelines.embed import DEFAULT_HEADINGS, describe, load_model
from cvgeo.pipelines.heat_pairs import Found, Pair, pairs_from_store, pairs_of_dataset, pairs_with_tile
from cvgeo.pipelines.polar import PNG_KEY, Outputs, sorted_out
from cvgeo.pipelines.search import Searcher, SearchOptions
from cvgeo.report import Reporter
from cvgeo.retrieval.peaks import best_turn

SUFFIX = ".heatmap.png"
FORMAT = 1  # raised when the same inputs and settings make another sheet than before
FULL_TURN = 360.0
# What kinds other than Grad-CAM need of a model, and the attention that has it (empty: any).
NEEDS = {
    "attention": ("attention", ()),
    "points": ("deformable sampling points", ("mc_gra", "context")),
    "relation": ("a relation branch", ("mc_gra", "relation")),
}
SCALES = {
    "gradcam": "Grad-CAM of the similarity: 1 is the largest value of each map",
    "attention": "attention: 0 the least and 1 the most of each map",
    "points": "attention, from the least to the most of each map",
    "relation": "affinity with the ringed node: 1 is the largest of each map",
}
LEGENDS = {
    "points": [(heat_sheet.SMALL, "samples of the 3x3 kernel"), (heat_sheet.LARGE, "of the 5x5 kernel")],
}


@dataclass(frozen=True)
class HeatmapOptions:
    """What is drawn, and what is known of the pictures.

    `at`: heading and elevation in degrees of the node that `points` and `relation` show; None takes the one of most
    attention in each view. `stated` is told of all loose pictures.
    """

    kind: str = "gradcam"
    at: tuple[float, float] | None = None
    stated: StatedPose = field(default_factory=StatedPose)
    device: str = "auto"
    overwrite: bool = False


@dataclass(frozen=True)
class HeatModel:
    """A model of the sheet: as the user named it, its short label, and the fingerprint of its weights."""

    reference: str
    label: str
    model: Embedder
    fingerprint: str

    @property
    def view(self) -> ViewConfig:
        """What its branches see."""
        return self.model.config.view


def _label(reference: str) -> str:
    path = Path(reference)
    if path.suffix == ".safetensors" and path.stem not in ("best", "last"):
        return path.stem
    folder = (path.parent if path.suffix == ".safetensors" else path).absolute()
    # The runs of a grid all have one name, their cells do not.
    return folder.parent.name if (folder.parent / RESULT).is_file() else folder.name


def load_models(references: Sequence[str], weights: str | None, options: HeatmapOptions) -> list[HeatModel]:
    """The models by the references that users give, each with a label of its own.

    Raises UsageError for a model that lacks what `options.kind` shows, and the errors of `load_model`.
    """
    models: list[HeatModel] = []
    for reference in references:
        model, _, _ = load_model(reference, weights, options.device)
        models.append(_heat_model(reference, model, options.kind, models))
    return models


def _heat_model(reference: str, model: Embedder, kind: str, others: Sequence[HeatModel] = ()) -> HeatModel:
    if kind in NEEDS and not attention.has(model, kind):
        what, parts = NEEDS[kind]
        known = [name for name in preset_names("models") if _preset_has(name, kind, parts)]
        mend = f"models with it: {', '.join(known)}; or --kind gradcam, which any model has"
        raise UsageError(f"has no {what.removeprefix('a ')}", path=reference, mend=mend)
    label, same = _label(reference), [one for one in others if _label(one.reference) == _label(reference)]
    return HeatModel(reference, f"{label}-{len(same) + 1}" if same else label, model, fingerprint(model))


def _preset_has(name: str, kind: str, parts: tuple[str, ...]) -> bool:
    config = load_model_config(name)
    if kind == "points" and not config.attention_options.get("deformable", True):
        return False
    return config.attention in parts if parts else config.attention != "none"


def _tensor(image: np.ndarray, mask: np.ndarray | None, model: HeatModel) -> tuple[torch.Tensor, torch.Tensor | None]:
    """One view (H, W, 3) as (1, 3, H, W), and its mask (1, H, W) or None where all is seen."""
    device = next(model.model.parameters()).device
    seen = None if mask is None or mask.all() else torch.from_numpy(mask[None]).to(device)
    return to_tensor(torch.from_numpy(np.ascontiguousarray(image[None])).to(device), seen, model.view), seen


@dataclass(frozen=True)
class _Views:
    """A pair as one model sees it."""

    ground: torch.Tensor
    aerial: torch.Tensor
    mask: torch.Tensor | None


def _views(pair: Pair, ground: np.ndarray, tile: np.ndarray, model: HeatModel) -> _Views:
    view, mask = _tensor(*pair.place(ground, model.view), model)
    return _Views(view, _tensor(aerial_view(tile, model.view), None, model)[0], mask)


def explain_pair(
    model: HeatModel, pair: Pair, ground: np.ndarray, tile: np.ndarray, options: HeatmapOptions
) -> tuple[float, str, ModelMaps]:
    """Similarity, a remark, and the maps of a pair; `ground` and `tile` are the pictures as they were read."""
    views = _views(pair, ground, tile, model)
    if options.kind == "gradcam":
        maps = grad_cam(model.model, views.ground, views.aerial, views.mask)
        shown = ModelMaps(_array(maps.ground), _array(maps.aerial))
        return float(maps.similarity), _gradcam_remark(maps, shown), shown
    maps = attention.attention_maps(model.model, views.ground, views.aerial, views.mask)
    ground_map, ground_range = _stretched(_array(maps.ground))
    aerial_map, aerial_range = _stretched(_array(maps.aerial))
    remark = f"attention: ground {ground_range}, aerial {aerial_range}"
    shown = ModelMaps(ground_map, aerial_map)
    if options.kind != "attention":
        nodes = _nodes(maps, options.at, model.view)
        shown = (_with_points if options.kind == "points" else _relations)(model, views, nodes, shown)
        remark = remark if options.kind == "points" else ""
    return float(maps.similarity), remark, shown


def _gradcam_remark(maps: PairMaps, shown: ModelMaps) -> str:
    remarks = ["gradient by node: its channel weights vanish"] if bool(maps.by_position) else []
    empty = [name for name in ("ground", "aerial") if not getattr(shown, name).any()]
    return "  ·  ".join(remarks + [f"{name}: empty, no weighted sum is above 0" for name in empty])


def _array(maps: torch.Tensor) -> np.ndarray:
    return maps[0].float().cpu().numpy()


def _stretched(values: np.ndarray) -> tuple[np.ndarray, str]:
    """Attention (h, w) from its least to its most as 0..1, and both as a text; what is unseen has none and stays 0."""
    low, high = float(values[values > 0].min(initial=1.0)), float(values.max())
    span = high - low
    shown = np.zeros_like(values) if span <= 0 else np.clip((values - low) / span, 0, 1)
    return shown, f"{low:.3g} to {high:.3g}"


def _nodes(maps: PairMaps, at: tuple[float, float] | None, view: ViewConfig) -> tuple[tuple[int, int], tuple[int, int]]:
    """Row and column of the node shown in each view: that at a heading and elevation, else that of most attention.

    A polar map's node is the one at the same share of rows and columns, as the polar transform holds; a plain tile has
    no such correspondence.
    """
    ground, aerial = _array(maps.ground), _array(maps.aerial)
    strongest = [tuple(int(one) for one in np.unravel_index(grid.argmax(), grid.shape)) for grid in (ground, aerial)]
    if at is None:
        return strongest[0], strongest[1]
    row = (GRID_TOP - at[1]) / (GRID_TOP - GRID_BOTTOM)
    column = (at[0] - view.column0_heading) % FULL_TURN / FULL_TURN
    chosen = [
        tuple(min(int(share * size), size - 1) for share, size in zip((row, column), grid.shape, strict=True))
        for grid in (ground, aerial)
    ]
    return chosen[0], chosen[1] if view.aerial == "polar" else strongest[1]


def _marks(node: tuple[int, int], size: tuple[int, int], groups: Sequence[np.ndarray] = ()) -> Marks:
    return Marks((np.array(node) + 0.5) / size, [(places + 0.5) / size for places in groups])


def _with_points(model: HeatModel, views: _Views, nodes: Sequence[tuple[int, int]], shown: ModelMaps) -> ModelMaps:
    marks = []
    for name, images, mask, node in (
        ("ground", views.ground, views.mask, nodes[0]),
        ("aerial", views.aerial, None, nodes[1]),
    ):
        points = attention.sampling_points(model.model, name, images, mask)
        groups = [one.places[0, node[0], node[1]].float().cpu().numpy() for one in points]
        marks.append(_marks(node, getattr(shown, name).shape, groups))
    return replace(shown, ground_marks=marks[0], aerial_marks=marks[1])


def _relations(model: HeatModel, views: _Views, nodes: Sequence[tuple[int, int]], shown: ModelMaps) -> ModelMaps:
    ground = _array(attention.relation_map(model.model, "ground", views.ground, nodes[0], views.mask))
    aerial = _array(attention.relation_map(model.model, "aerial", views.aerial, nodes[1]))
    return ModelMaps(ground, aerial, _marks(nodes[0], ground.shape), _marks(nodes[1], aerial.shape))


def _facing(pair: Pair, ground: np.ndarray, tile: np.ndarray, model: HeatModel) -> Pair:
    """The pair with a heading: where its own is unknown, the one at which the model finds it most like the tile."""
    if not math.isnan(pair.column0_heading):
        return pair
    count = model.model.azimuth_columns or DEFAULT_HEADINGS
    turned = [replace(pair, column0_heading=FULL_TURN * turn / count) for turn in range(count)]
    queries = describe(model.model, "ground", [one.place(ground, model.view) for one in turned])
    aerial = aerial_view(tile, model.view)
    row = describe(model.model, "aerial", [(aerial, np.ones(aerial.shape[:2], bool))])
    return replace(pair, column0_heading=float(best_turn((queries @ row.T).T)[0]))


class Drawer:
    """Models and settings, ready for pairs; writes the sheet and the overlays of each."""

    def __init__(self, models: list[HeatModel], options: HeatmapOptions, geotiff: Path | None, reporter: Reporter):
        self.models, self.options, self.geotiff, self.reporter = models, options, geotiff, reporter

    def _mark(self, pair: Pair) -> str:
        """What decides about a pair's outputs, as 64 hexadecimal digits."""
        camera = asdict(pair.camera)
        settings = {
            "format": FORMAT,
            "pictures": [*map(file_sha256, parts(pair.path, pair.camera.projection)), file_sha256(pair.tile_path)],
            "names": [pair.query, pair.tile, *(one.label for one in self.models)],
            "place": [repr(pair.lat), repr(pair.lon), repr(pair.gsd_m)],
            "pose": [f"{pair.column0_heading:.4f}", camera.pop("projection"), *(f"{a:.4f}" for a in camera.values())],
            "models": [one.fingerprint for one in self.models],
            "kind": [self.options.kind, self.options.at],
        }
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()

    def draw(self, pair: Pair, target: Path) -> list[dict[str, Any]]:
        """Draw a pair's sheet and overlays unless they are there already; its records, one a model.

        Raises InputError for a picture that cannot be read, MismatchError where an output was made from something else.
        """
        ground, tile = pair.read_ground(), square(read_image(pair.tile_path))
        pair = _facing(pair, ground, tile, self.models[0])
        mark, overlays = self._mark(pair), self._overlays(pair)
        made = self._made_before(target, overlays, mark)
        if made is None:
            explained = [explain_pair(one, pair, ground, tile, self.options) for one in self.models]
            made = [similarity for similarity, _, _ in explained]
            for one, path, (_, _, maps) in zip(self.models, overlays, explained, strict=bool(overlays)):
                rgba = overlay_rgba(tile_values(maps, one.view, len(tile)))
                write_tile_geotiff(path, rgba, pair.lat, pair.lon, pair.gsd_m, mark)
            text = json.dumps({"made_from": mark, "similarity": made})
            png = with_png_text(encode_image(self._sheet(pair, ground, tile, explained), ".png"), PNG_KEY, text)
            with atomic_file(target) as temporary:
                temporary.write_bytes(png)
        return [self._record(pair, one, made[n], [target, *overlays[n : n + 1]]) for n, one in enumerate(self.models)]

    def _overlays(self, pair: Pair) -> list[Path]:
        if self.geotiff is None:
            return []
        if any(map(math.isnan, (pair.lat, pair.lon, pair.gsd_m))):
            fault = "its tile's position or ground sampling distance is unknown: no GeoTIFF is made"
            self.reporter.fail(pair.query, fault)
            return []
        return [self.geotiff / f"{pair.path.stem}.{one.label}.tif" for one in self.models]

    def _made_before(self, target: Path, overlays: list[Path], mark: str) -> list[float] | None:
        """The similarities where all outputs are there and made from the same; None where some are to be made."""
        if self.options.overwrite:
            return None
        similarity = None
        for path in filter(os.path.lexists, (target, *overlays)):
            made = _made_from(path)
            if made.get("made_from") != mark:
                fault = "exists and was made from other pictures, models or settings"
                raise MismatchError(fault, path=path, mend="add --overwrite or name another output with -o")
            similarity = made.get("similarity", similarity)
        return similarity if all(path.exists() for path in (target, *overlays)) else None

    def _record(self, pair: Pair, model: HeatModel, similarity: float, files: list[Path]) -> dict[str, Any]:
        hfov = FULL_TURN if math.isnan(pair.camera.hfov) else pair.camera.hfov
        return {
            "query": pair.query,
            "tile": pair.tile,
            "model": model.reference,
            "kind": self.options.kind,
            "similarity": round(similarity, 6),
            "lat": pair.lat,
            "lon": pair.lon,
            "heading": round((pair.column0_heading + hfov / 2) % FULL_TURN, 2),
            "files": [str(path) for path in files],
        }

    def _sheet(
        self, pair: Pair, ground: np.ndarray, tile: np.ndarray, explained: list[tuple[float, str, ModelMaps]]
    ) -> np.ndarray:
        view = self.models[0].view
        pictures = _pictures(pair, ground, tile, view)
        rows = []
        for one, (similarity, remark, maps) in zip(self.models, explained, strict=True):
            panels = map_panels(maps, one.view, pictures, view.column0_heading)
            told = f"similarity {similarity:.3f}" + (f"  ·  {remark}" if remark else "")
            rows.append(heat_sheet.HeatRow(one.label, told, panels))
        place = "" if math.isnan(pair.lat) else f"  ·  {pair.lat:.6f}, {pair.lon:.6f}"
        title, subtitle = Path(pair.query).name, f"tile {Path(pair.tile).name}{place}"
        kind = self.options.kind
        return heat_sheet.draw_heat_sheet(
            title, subtitle, pictures, rows, view.column0_heading, SCALES[kind], LEGENDS.get(kind, ())
        )


def _pictures(pair: Pair, ground: np.ndarray, tile: np.ndarray, view: ViewConfig) -> heat_sheet.Panels:
    """The pictures as the first model sees them, on panels of one size."""
    side, wide = heat_sheet.SIDE, heat_sheet.WIDE
    panel = replace(view, ground_height=side, ground_width=wide, aerial="plain", aerial_height=side, aerial_width=side)
    polar = polar_transform(tile, side, wide, view.polar_convention, view.column0_heading)
    return heat_sheet.Panels(pair.place(ground, panel)[0], polar, aerial_view(tile, panel))


def _made_from(path: Path) -> dict[str, Any]:
    """What an output that is there says of itself; {} for anything that this pipeline did not write."""
    if path.is_dir() or not path.exists():
        return {}
    if path.suffix == ".tif":
        return {"made_from": geotiff_mark(path)}
    try:
        made = json.loads(png_text(path, PNG_KEY) or "")
    except ValueError:
        return {}
    return made if isinstance(made, dict) else {}


def _found(
    names: Iterable[str],
    dataset: str | None,
    tile: Path | None,
    searcher: Searcher | None,
    options: HeatmapOptions,
    reporter: Reporter,
) -> Iterator[Found]:
    if dataset is not None:
        return pairs_of_dataset(names, dataset)
    if tile is not None:
        return pairs_with_tile(names, tile, options.stated, reporter)
    assert searcher is not None
    return pairs_from_store(names, searcher, reporter)


def heatmaps(
    names: Iterable[str],
    output: Path,
    *,
    reporter: Reporter,
    models: Sequence[str] = (),
    weights: str | None = None,
    dataset: str | None = None,
    tile: Path | None = None,
    store: str | None = None,
    geotiff: Path | None = None,
    options: HeatmapOptions | None = None,
) -> Iterator[list[dict[str, Any]]]:
    """Heat maps of pictures and their tiles: of a data set, one tile for all, or a store's best match.

    Yields the records of each picture, one a model, as its sheet is there. Pictures that fail are reported and the rest
    is done. Raises UsageError and MismatchError for what holds for all of them.
    """
    options = options or HeatmapOptions()
    outputs = Outputs(output, SUFFIX)
    outputs.check(names)
    searcher = None
    if dataset is None and tile is None:
        known = SearchOptions(1, options.stated, device=options.device)
        searcher = Searcher(store, None, weights, known, reporter)
    if models or searcher is None:
        reporter.now("loading the models")
        loaded = load_models(models, weights, options)
    else:
        loaded = [_heat_model(searcher.store.header.model, searcher.model, options.kind)]
    drawer = Drawer(loaded, options, geotiff, reporter)
    found = reporter.track(_found(names, dataset, tile, searcher, options, reporter), "heat maps")
    yield from sorted_out(_drawn(found, outputs, drawer), reporter)


def _drawn(found: Iterable[Found], outputs: Outputs, drawer: Drawer) -> Iterator[tuple[Path, Any]]:
    for path, pair in found:
        if isinstance(pair, CvgeoError):
            yield path, pair
            continue
        try:
            target = outputs.of(path, None)
            yield path, None if target is None else drawer.draw(pair, target)
        except CvgeoError as error:
            yield path, error
