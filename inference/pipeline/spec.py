"""ModelSpec: what `model.toml` says about a model, validated field by field."""

from __future__ import annotations

import tomllib
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, Self

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from dicom_io.results import Algorithm, Code, Segment
from inference.domain.errors import ModelSpecError
from inference.pipeline.engine_spec import Engine
from inference.pipeline.network_spec import NetworkSpec

SPEC_FILE = "model.toml"
MAX_LABELS = 65535

Positive = Annotated[float, Field(gt=0, le=10_000, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1)]
Millimetres3 = tuple[Positive, Positive, Positive]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Scope(_Table):
    """Which series the model is for; lengths along canonical axes (slice, row, column).

    ``body_parts`` empty means that any body part is accepted.
    """

    modalities: Annotated[tuple[Text, ...], Field(min_length=1)]
    body_parts: tuple[Text, ...] = ()
    min_slices: Annotated[int, Field(ge=1)] = 1
    slice_spacing_mm: tuple[Positive, Positive]
    in_plane_spacing_mm: tuple[Positive, Positive]
    min_extent_mm: Millimetres3
    max_extent_mm: Millimetres3 | None = None
    notes: str = ""

    @model_validator(mode="after")
    def _ranges_ascend(self) -> Self:
        for name in ("slice_spacing_mm", "in_plane_spacing_mm"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name}: lower bound {low} is above upper bound {high}")
        if self.max_extent_mm is not None:
            for low, high in zip(self.min_extent_mm, self.max_extent_mm, strict=True):
                if low > high:
                    raise ValueError(f"max_extent_mm: {high} is below min_extent_mm {low}")
        return self


class ClipScale(_Table):
    """Clip to [lower, upper] (the volume's unit) and scale to [0, 1]."""

    kind: Literal["clip_scale"]
    lower: Finite
    upper: Finite
    padding_value: Finite = 0.0

    @model_validator(mode="after")
    def _upper_is_above_lower(self) -> Self:
        if self.upper <= self.lower:
            raise ValueError(f"upper: {self.upper} must be above lower {self.lower}")
        return self


class ZScore(_Table):
    """Subtract the mean and divide by the population SD, both over the resampled volume.

    With ``percentiles`` the volume is first clipped to them. With ``nonzero`` only voxels other
    than 0 count for percentiles, mean and SD, and only they are changed.
    """

    kind: Literal["zscore"]
    percentiles: (
        tuple[Annotated[float, Field(ge=0, le=100)], Annotated[float, Field(ge=0, le=100)]] | None
    ) = None
    nonzero: bool = False
    padding_value: Finite = 0.0

    @model_validator(mode="after")
    def _percentiles_ascend(self) -> Self:
        if self.percentiles is not None and self.percentiles[0] >= self.percentiles[1]:
            raise ValueError(f"percentiles: {self.percentiles} must ascend")
        return self


Intensity = Annotated[ClipScale | ZScore, Field(discriminator="kind")]


class Preprocessing(_Table):
    """Spacing of the model's grid along canonical axes (S, P, L), and the intensity rule.

    ``padding_value``, in normalised units, fills windows where a volume is smaller than one.
    """

    spacing_mm: Millimetres3
    intensity: Intensity


class Window(_Table):
    """The sliding window, in voxels of the model's grid.

    ``skip_constant``: windows in which every voxel has the same value (outside the body, after
    clipping) are run once; later ones of that value take the first one's answer. ``batch_size``:
    windows that the network is given at a time, always as many; None leaves it to the device
    (`inference.pipeline.batch`).
    """

    roi_size: tuple[
        Annotated[int, Field(ge=4, le=1024)],
        Annotated[int, Field(ge=4, le=1024)],
        Annotated[int, Field(ge=4, le=1024)],
    ]
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.5
    merge: Literal["gaussian"] = "gaussian"
    sigma_scale: Annotated[float, Field(gt=0, le=10)] = 0.125
    batch_size: Annotated[int, Field(ge=1, le=64)] | None = None
    skip_constant: bool = True


class Weights(_Table):
    """The weights file, relative to the model folder, and its SHA-256."""

    file: Text = "1/weights.safetensors"
    sha256: Sha256

    @model_validator(mode="after")
    def _file_stays_in_the_folder(self) -> Self:
        path = PurePosixPath(self.file)
        if path.is_absolute() or ".." in path.parts or "\\" in self.file:
            raise ValueError(f"file: {self.file!r} must be relative and inside the model folder")
        if path.suffix != ".safetensors":
            raise ValueError(f"file: {self.file!r} must be a .safetensors file")
        return self


class CodeSpec(_Table):
    """A coded concept, e.g. SNOMED CT (SCT)."""

    value: Annotated[str, Field(min_length=1, max_length=16)]
    scheme: Annotated[str, Field(min_length=1, max_length=16)]
    meaning: Annotated[str, Field(min_length=1, max_length=64)]

    def code(self) -> Code:
        """Return it as the value type of the result objects."""
        return Code(value=self.value, scheme=self.scheme, meaning=self.meaning)


Channel8 = Annotated[int, Field(ge=0, le=255)]


class LabelSpec(_Table):
    """One structure; ``value`` is its number in the label map and its channel in the head."""

    value: Annotated[int, Field(ge=1, le=MAX_LABELS)]
    name: Text
    category: CodeSpec
    type: CodeSpec
    modifier: CodeSpec | None = None
    color_rgb: tuple[Channel8, Channel8, Channel8]

    def segment(self) -> Segment:
        """Return it as the value type of the result objects."""
        return Segment(
            label=self.value,
            name=self.name,
            category=self.category.code(),
            type=self.type.code(),
            modifier=None if self.modifier is None else self.modifier.code(),
            color_rgb=self.color_rgb,
        )


class Postprocessing(_Table):
    """What is removed from the label map, by label value.

    ``keep_largest_component``: labels of which only the largest 26-connected part stays.
    ``min_volume_ml``: a label whose total is below this is removed; 0 removes nothing.
    """

    keep_largest_component: tuple[int, ...] = ()
    min_volume_ml: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0


class TrainingCase(_Table):
    """One case that the weights have seen."""

    id: Text
    source: Text
    licence: Text


class UnseenCase(_Table):
    """One case kept from training, on which the metrics are measured."""

    id: Text
    source: Text


class Training(_Table):
    """What the weights were made from."""

    data: Text
    licences: tuple[Text, ...] = ()
    cases: tuple[TrainingCase, ...] = ()
    unseen_cases: tuple[UnseenCase, ...] = ()
    seed: int = 0


class SegmentLimits(_Table):
    """Half width of the 95 % limits of agreement of one label between two scans without a change.

    In percent of the mean of both; a figure that was not measured is left out.
    """

    name: Text
    volume_percent: Positive | None = None
    long_axis_percent: Positive | None = None


class Reproducibility(_Table):
    """How far two measurements differ where nothing changed, and where that was measured."""

    source: Text
    segments: Annotated[tuple[SegmentLimits, ...], Field(min_length=1)]


class ModelSpec(_Table):
    """A model as data: labels, scope, preprocessing, window, network, weights, provenance."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]{0,63}$")]
    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")]
    title: Text
    status: Literal["research", "released"]
    intended_use: Text
    limitations: tuple[str, ...] = ()
    scope: Scope
    preprocessing: Preprocessing
    window: Window
    network: NetworkSpec
    engine: Engine = Engine()
    weights: Weights
    labels: Annotated[tuple[LabelSpec, ...], Field(min_length=1)]
    postprocessing: Postprocessing = Postprocessing()
    training: Training
    metrics: dict[str, Any] = {}
    reproducibility: Reproducibility | None = None

    @model_validator(mode="after")
    def _parts_fit_together(self) -> Self:
        values = [label.value for label in self.labels]
        if values != list(range(1, len(values) + 1)):
            raise ValueError(f"labels: values must be 1, 2, 3, ... in order, got {values}")
        names = [label.name for label in self.labels]
        if len(set(names)) != len(names):
            raise ValueError(f"labels: names must differ, got {names}")
        if self.reproducibility is not None:
            strangers = {one.name for one in self.reproducibility.segments} - set(names)
            if strangers:
                raise ValueError(f"reproducibility: no such labels: {sorted(strangers)}")
        unknown = set(self.postprocessing.keep_largest_component) - set(values)
        if unknown:
            raise ValueError(
                f"postprocessing.keep_largest_component: no such labels: {sorted(unknown)}"
            )
        for size, stride in zip(
            self.window.roi_size, self.network.args.strides_per_axis(), strict=True
        ):
            if size % stride:
                raise ValueError(
                    f"window.roi_size: {size} is not a multiple of {stride}, which the network's"
                    " strides need"
                )
        return self

    @property
    def n_classes(self) -> int:
        """Channels of the network's head: background and every label."""
        return len(self.labels) + 1

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The labels as the result objects need them."""
        return tuple(label.segment() for label in self.labels)

    def algorithm(self, *, engine: str, software_version: str) -> Algorithm:
        """Return what a result object says about its maker."""
        return Algorithm(
            name=self.name,
            version=self.version,
            weights_sha256=self.weights.sha256,
            software_version=software_version,
            engine=engine,
            is_research=self.status == "research",
        )


def load_spec(folder: Path) -> ModelSpec:
    """Read and check `model.toml` of a model folder.

    Raises
    ------
    ModelSpecError
        Names the file, the first wrong field and what is wrong with it.
    """
    path = folder / SPEC_FILE
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelSpecError(path=str(path), field="(file)", problem="not found") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ModelSpecError(path=str(path), field="(file)", problem=str(error)) from error
    spec = parse_spec(table, path=str(path))
    if spec.name != folder.resolve().name:
        raise ModelSpecError(
            path=str(path),
            field="name",
            problem=f"{spec.name!r} must be the folder's name, {folder.resolve().name!r}",
        )
    return spec


def parse_spec(table: dict[str, Any], *, path: str = SPEC_FILE) -> ModelSpec:
    """Check a table as `model.toml` holds it; ``path`` is only named in errors.

    Raises
    ------
    ModelSpecError
    """
    try:
        return ModelSpec.model_validate(table)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        problem = first["msg"].removeprefix("Value error, ")
        head, separator, rest = problem.partition(": ")
        if separator and " " not in head:  # our own validators start with the field's name
            field, problem = ".".join(filter(None, (field, head))), rest
        others = error.error_count() - 1
        if others:
            problem += f" (and {others} more)"
        raise ModelSpecError(path=path, field=field or "(file)", problem=problem) from error


def write_spec(spec: ModelSpec | dict[str, Any]) -> str:
    """Return the text of a `model.toml`; a dict is checked first.

    Raises
    ------
    ModelSpecError
    """
    checked = spec if isinstance(spec, ModelSpec) else parse_spec(spec)
    table = checked.model_dump(mode="json", by_alias=True, exclude_none=True)
    return tomli_w.dumps(table)


def list_models(repo: Path) -> tuple[str, ...]:
    """Names of the folders of a model repository that hold a `model.toml`, sorted.

    Their specs are not read: one wrong model must not hide the others.
    """
    if not repo.is_dir():
        return ()
    return tuple(sorted(path.parent.name for path in repo.glob(f"*/{SPEC_FILE}")))
