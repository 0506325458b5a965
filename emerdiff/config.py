"""Settings of the method: the `emerdiff` section of a preset (YAML mapping) → a checked, frozen `EmerDiffConfig`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any

from emerdiff.speed import SPEEDS, AffinitySource, Choices, Differences, Speed
from ground import checks
from ground.checks import any_text, number, one_of, or_null, text, whole, yes_no
from ground.choices import Choice


class Modulation(Choice):
    """When the offset is added."""

    ONCE = "once"  # at t_m alone
    ONWARD = "onward"  # at t_m and every later timestep


class Clustering(Choice):
    """How features become low-resolution masks."""

    KMEANS = "kmeans"
    WARD = "ward"  # only neighbours are merged, so that each cluster is connected
    NCUT = "ncut"  # normalised cuts of what is alike: as many clusters as the image asks for


@dataclass(frozen=True)
class EmerDiffConfig:
    """Every constant of the method (EmerDiff, arXiv 2401.11739, section 4); the defaults are the paper's for SD 1.x.

    Raises ValueError, in one line, for a value of a wrong type or out of range. Whether `timestep_modulate` is on the
    schedule and the layers exist is known only with the model: `EmerDiff` checks that.
    """

    # Hub id, local diffusers folder, .safetensors file, or "builtin:NAME".
    model: Annotated[str, text("a hub id, a local folder, a .safetensors file or builtin:NAME")]
    # Commit on the hub; None for a local folder or built-in weights.
    revision: Annotated[str | None, or_null(text("a commit of the hub"))] = None
    # Of the weights files, such as "fp16" for diffusion_pytorch_model.fp16.safetensors; None: the plain ones.
    variant: Annotated[str | None, or_null(text("the name of a variant of weights files"))] = None
    # What a model in one file is read with: a folder of emerdiff/layouts, or one of yours; None: what the file tells.
    layout: Annotated[str | None, or_null(text("the name of a layout or a local folder"))] = None
    # Of the weights.
    license: Annotated[str, any_text()] = ""
    # Hub id or local folder of an AutoencoderTiny that decodes in place of the model's VAE; None: none.
    decoder: Annotated[str | None, or_null(text("a hub id or a local folder"))] = None
    # Commit of the decoder on the hub.
    decoder_revision: Annotated[str | None, or_null(text("a commit of the hub"))] = None
    # MB that a download takes; 0: not known.
    download_mb: Annotated[int, whole(0, "MB")] = 0
    # px; images are scaled to about image_size² pixels, keeping their aspect.
    image_size: Annotated[int, whole(8, "px")] = 512
    # 50 → 981, 961, …, 21, 1 for a model trained with T = 1000.
    num_timesteps: Annotated[int, whole(1)] = 50
    # t_f: where the features to cluster are read.
    timestep_feature: Annotated[int, whole(0)] = 1
    # t_m: where modulated denoising begins; on the schedule.
    timestep_modulate: Annotated[int, whole(1)] = 281
    # One of Modulation.
    modulate: Annotated[str, one_of(Modulation)] = "once"
    # λ, added to the modulation layer's output.
    strength: Annotated[float, number(0)] = 10.0
    # K; with clustering "ncut" or merge_attention the most that there may be.
    clusters: Annotated[int, whole(1)] = 30
    # One of Clustering.
    clustering: Annotated[str, one_of(Clustering)] = "kmeans"
    # Of normalised cuts (DiffCut's τ and α): what a cut must cost less than to be made, and the power of the cosines.
    ncut_threshold: Annotated[float, number(0, 2)] = 0.5
    ncut_power: Annotated[float, number(0)] = 10.0
    # Weight of the place in the image beside the features that are clustered; 0, as in the paper: none.
    position_weight: Annotated[float, number(0)] = 0.0
    # Clusters whose mean features have a cosine above this are one; 1, as in the paper: none.
    merge: Annotated[float, number(0, 1)] = 1.0
    # Neighbouring clusters between which self-attention flows more strongly than this are one: the lower, the fewer
    # (emerdiff/merging.py); None, as in the paper: none.
    merge_attention: Annotated[float | None, or_null(number(0, 1))] = None
    # How many times scales are doubled: crops at twice the scale, at four times, whose small things join the masks.
    zoom: Annotated[int, whole(0, high=2)] = 0
    # The attention layer whose queries are clustered.
    feature_layer: Annotated[str, text("the name of an attention layer")] = (
        "up_blocks.1.attentions.0.transformer_blocks.0.attn2"
    )
    # The attention layer whose output is offset.
    modulation_layer: Annotated[str, text("the name of an attention layer")] = (
        "up_blocks.1.attentions.2.transformer_blocks.0.attn2"
    )
    # Noise draws whose features are averaged.
    feature_draws: Annotated[int, whole(1)] = 1
    # Where the affinity of positions is read, if it is asked for; need not be on the schedule.
    timestep_affinity: Annotated[int, whole(0)] = 101
    # What the affinity is read from, one of AffinitySource; None: attention where the last up block has it.
    affinity: Annotated[str | None, or_null(one_of(AffinitySource))] = None
    # Whether modulated passes take Q and K of the unmodulated pass.
    inject_attention: Annotated[bool, yes_no()] = True
    # Whether their group norms take mean and variance of the unmodulated pass; as in the paper: not.
    inject_norms: Annotated[bool, yes_no()] = False
    # Gaussian sigma on the difference image I⁻ − I⁺, px of the model's image frame.
    image_blur: Annotated[float, number(0, unit="px (sigma)")] = 0.0
    # Gaussian sigma on d = ‖I⁻ − I⁺‖, px of the model's image frame.
    difference_blur: Annotated[float, number(0, unit="px (sigma)")] = 1.0
    # Each d^i is weighted by its M^i, blurred with this sigma in positions of the feature layer; 0, as in the paper:
    # no weights.
    locality: Annotated[float, number(0, unit="positions of the feature layer (sigma)")] = 0.0
    # Without modulation each cluster's share is divided by its area to this power before the filter, so that small
    # masks keep their place beside large ones; 0: not. Difference maps favour small masks by themselves.
    area_power: Annotated[float, number(0, 1)] = 0.0
    # Trajectories at once; None: as many as half of a GPU's memory holds, 16 on the CPU. Halved when memory runs out.
    batch_size: Annotated[int | None, or_null(whole(1))] = None

    # How much is computed: one of Speed, and what its row of `speed.SPEEDS` says, unless one of these says otherwise.
    speed: Annotated[str, one_of(Speed)] = "exact"
    modulation: Annotated[bool | None, or_null(yes_no())] = None
    spread: Annotated[bool | None, or_null(yes_no())] = None
    one_step: Annotated[bool | None, or_null(yes_no())] = None
    differences: Annotated[str | None, or_null(one_of(Differences))] = None
    one_side: Annotated[bool | None, or_null(yes_no())] = None
    passes: Annotated[int | None, or_null(whole(0))] = None
    guided_radius: Annotated[float | None, or_null(number(0, unit="positions of the feature layer"))] = None

    def __post_init__(self) -> None:
        checks.check_fields(self, "emerdiff")

    @property
    def choices(self) -> Choices:
        """What is computed: the row of `speed`, but for what the config itself says."""
        own = {field.name: getattr(self, field.name) for field in fields(Choices)}
        return replace(SPEEDS[self.speed], **{name: value for name, value in own.items() if value is not None})

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> EmerDiffConfig:
        """Config from the `emerdiff` section of a preset; ValueError on an unknown key or a missing `model`."""
        return checks.from_mapping(cls, values, "emerdiff")
