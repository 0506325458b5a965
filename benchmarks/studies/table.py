"""The studies: what each varies, over which values, and what EmerDiff's paper (arXiv 2401.11739) reports of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from emerdiff.cluster import RESTARTS
from emerdiff.config import EmerDiffConfig

# The paper's own pipeline, for the model of any preset. Timesteps, λ, layers and draws stay the preset's: they go with
# the weights.
BASE: Mapping[str, Any] = {
    "speed": "exact",
    "clustering": "kmeans",
    "clusters": 20,
    "position_weight": 0.0,
    "merge": 1.0,
    "locality": 0.0,
    "guided_radius": 0.0,
}
_NOT_STUDIED = "no study of it that we know of"


@dataclass(frozen=True)
class Value:
    """One point of a curve."""

    name: str  # as it stands in tables and below plots
    changes: Mapping[str, Any] = field(default_factory=dict)  # fields of EmerDiffConfig
    restarts: int = RESTARTS  # of k-means
    before: bool = False  # whether the offset is added before the layer's output projection; in the paper after it

    def config(self, base: EmerDiffConfig) -> EmerDiffConfig:
        return replace(base, **self.changes)

    def is_base(self, base: EmerDiffConfig) -> bool:
        """Whether it is what `base` has anyway."""
        return self.config(base) == base and self.restarts == RESTARTS and not self.before


@dataclass(frozen=True)
class Study:
    """A curve."""

    name: str
    title: str
    values: tuple[Value, ...]
    paper: str  # how the paper's curve bends

    @property
    def fields(self) -> list[str]:
        """The fields of EmerDiffConfig that it varies."""
        return sorted({name for value in self.values for name in value.changes})


def layer(block: str, place: int, kind: int) -> str:
    """The `place`th attention layer of a block, from 1; `kind` 1 is self-attention, 2 cross-attention."""
    return f"{block}.attentions.{place - 1}.transformer_blocks.0.attn{kind}"


def _over(name: str, values: Sequence[Any]) -> tuple[Value, ...]:
    return tuple(Value(str(value), {name: value}) for value in values)


def _layers(name: str, places: Sequence[tuple[str, int, int]]) -> tuple[Value, ...]:
    kinds = {1: "self", 2: "cross"}
    return tuple(
        Value(f"{block.replace('_blocks.', ' ').replace('_block', '')}, {place}, {kinds[kind]}", {name: layer(*where)})
        for where in places
        for block, place, kind in [where]
    )


_FEATURE_LAYERS = [
    ("down_blocks.1", 2, 1),
    ("down_blocks.2", 2, 1),
    ("up_blocks.0", 1, 1),
    ("up_blocks.0", 3, 1),
    *(("up_blocks.1", place, kind) for place in (1, 2, 3) for kind in (1, 2)),
    ("up_blocks.2", 1, 1),
]
_MODULATION_LAYERS = [
    ("mid_block", 1, 2),
    ("up_blocks.0", 1, 2),
    ("up_blocks.0", 3, 2),
    ("up_blocks.1", 1, 2),
    ("up_blocks.1", 2, 2),
    ("up_blocks.1", 3, 2),
    ("up_blocks.2", 1, 2),
]

_FINEST = {"modulation_layer": layer("up_blocks.2", 1, 2)}

# The most telling first: a run may end early.
STUDIES = (
    Study(
        "timestep-modulate",
        "t_m: where modulation happens",
        _over("timestep_modulate", (1, 101, 201, 301, 401, 501, 701, 901)),
        "best at 281 to 481, of 1000",
    ),
    Study(
        "strength", "λ: how strong it is", _over("strength", (2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0)), "best near 10"
    ),
    Study(
        "modulation-layer",
        "Which layer is modulated",
        _layers("modulation_layer", _MODULATION_LAYERS),
        "of the three cross-attentions of the 16×16 up block the third is clearly best",
    ),
    Study(
        "injection",
        "Attention of the unmodulated pass",
        (Value("injected", {"inject_attention": True}), Value("its own", {"inject_attention": False})),
        "injection keeps thin structures",
    ),
    Study(
        "finest",
        "Modulated at the finest layer, with other settings",
        (
            Value("base"),
            Value("finest", _FINEST),
            Value("finest, λ 20", {**_FINEST, "strength": 20.0}),
            Value("finest, λ 80", {**_FINEST, "strength": 80.0}),
            Value("finest, own attention", {**_FINEST, "inject_attention": False}),
            Value("finest, t_m 701", {**_FINEST, "timestep_modulate": 701}),
            Value("finest, t_m 701, own", {**_FINEST, "timestep_modulate": 701, "inject_attention": False}),
        ),
        "modulates at 16×16 alone",
    ),
    Study(
        "shortcuts",
        "What is left out for speed",
        (
            Value("nothing"),
            Value("later timesteps", {"one_step": True}),
            Value("decoding", {"differences": "latents"}),
            Value("both", {"one_step": True, "differences": "latents"}),
        ),
        f"nothing; {_NOT_STUDIED}",
    ),
    Study("clusters", "K: how many masks", _over("clusters", (10, 20, 30, 40, 60)), "10 to 40 hardly differ"),
    Study(
        "modulate",
        "When the offset is added",
        (Value("at t_m alone", {"modulate": "once"}), Value("from t_m onward", {"modulate": "onward"})),
        "readings of it differ; the default here is once",
    ),
    Study(
        "timestep-feature",
        "t_f: where features are read",
        _over("timestep_feature", (1, 101, 181, 201, 281, 381, 501, 701)),
        "the larger, the worse; 1 is best",
    ),
    Study(
        "feature-layer",
        "Which layer is clustered",
        _layers("feature_layer", _FEATURE_LAYERS),
        "the three cross-attentions of the 16×16 up block hardly differ",
    ),
    Study(
        "projection",
        "Where the offset is added",
        (
            Value("after the projection"),
            Value("before, λ = 10", {"strength": 10.0}, before=True),
            Value("before, λ = 40", {"strength": 40.0}, before=True),
        ),
        f"after the projection; {_NOT_STUDIED}",
    ),
    Study(
        "difference-blur",
        "Blur of difference maps, px",
        _over("difference_blur", (0.0, 1.0, 2.0, 4.0)),
        f"a Gaussian takes off the pattern of the latent's grid; {_NOT_STUDIED}",
    ),
    Study(
        "image-blur",
        "Blur of images before differences, px",
        _over("image_blur", (0.0, 0.8, 2.0, 4.0)),
        f"none; a course project's script has 0.8; {_NOT_STUDIED}",
    ),
    Study("feature-draws", "Noise draws of features", _over("feature_draws", (1, 2, 8, 32, 100)), _NOT_STUDIED),
    Study(
        "restarts",
        "Restarts of k-means",
        tuple(Value(str(count), restarts=count) for count in (1, RESTARTS, 10, 100)),
        f"a course project's script has 100; {_NOT_STUDIED}",
    ),
    Study("timesteps", "Number of timesteps", _over("num_timesteps", (10, 20)), f"50; {_NOT_STUDIED}"),
)
