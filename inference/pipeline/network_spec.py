"""The `[network]` table of model.toml: which architectures are allowed, and their arguments.

The allow-list is closed on purpose: a model folder is data, and data must not name code to run.
"""

from __future__ import annotations

from math import prod
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

Positive = Annotated[int, Field(ge=1, le=4096)]
Level = Positive | Annotated[list[Positive], Field(min_length=3, max_length=3)]
Layer = str | tuple[str, dict[str, Any]]
"""An activation or a normalisation: a name, or a name with its arguments."""


class _Args(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    def strides_per_axis(self) -> tuple[int, int, int]:
        """How much the network divides (slice, row, column) before it multiplies them back."""
        raise NotImplementedError


def _product(levels: list[Level]) -> tuple[int, int, int]:
    axes = [[level] * 3 if isinstance(level, int) else level for level in levels]
    return (prod(a[0] for a in axes), prod(a[1] for a in axes), prod(a[2] for a in axes))


class UNetArgs(_Args):
    """Arguments of `monai.networks.nets.UNet`; dimensions and channels in and out are ours."""

    channels: Annotated[list[Positive], Field(min_length=2, max_length=8)]
    strides: Annotated[list[Level], Field(min_length=1, max_length=7)]
    kernel_size: Level = 3
    up_kernel_size: Level = 3
    num_res_units: Annotated[int, Field(ge=0, le=8)] = 0
    act: Layer = "PRELU"
    norm: Layer = "INSTANCE"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    bias: bool = True
    adn_ordering: Literal["NDA", "ADN", "AND", "DNA", "NAD", "DAN", "NA", "AN"] = "NDA"

    @model_validator(mode="after")
    def _one_stride_between_levels(self) -> Self:
        if len(self.strides) != len(self.channels) - 1:
            raise ValueError(
                f"strides: {len(self.channels)} channels need {len(self.channels) - 1} strides,"
                f" got {len(self.strides)}"
            )
        return self

    def strides_per_axis(self) -> tuple[int, int, int]:
        """See the base class."""
        return _product(self.strides)


class DynUNetArgs(_Args):
    """Arguments of `monai.networks.nets.DynUNet` (nnU-Net's architecture), one head."""

    kernel_size: Annotated[list[Level], Field(min_length=3, max_length=9)]
    strides: Annotated[list[Level], Field(min_length=3, max_length=9)]
    upsample_kernel_size: Annotated[list[Level], Field(min_length=2, max_length=8)]
    filters: list[Positive] | None = None
    norm_name: Layer = ("INSTANCE", {"affine": True})
    act_name: Layer = ("leakyrelu", {"inplace": True, "negative_slope": 0.01})
    res_block: bool = False
    trans_bias: bool = False

    @model_validator(mode="after")
    def _one_kernel_per_level(self) -> Self:
        n = len(self.strides)
        if len(self.kernel_size) != n or len(self.upsample_kernel_size) != n - 1:
            raise ValueError(
                f"strides: {n} strides need {n} kernel_size and {n - 1} upsample_kernel_size"
                f" entries, got {len(self.kernel_size)} and {len(self.upsample_kernel_size)}"
            )
        return self

    def strides_per_axis(self) -> tuple[int, int, int]:
        """See the base class."""
        return _product(self.strides)


class SegResNetArgs(_Args):
    """Arguments of `monai.networks.nets.SegResNet`."""

    init_filters: Positive = 8
    blocks_down: Annotated[list[Positive], Field(min_length=1, max_length=8)] = [1, 2, 2, 4]
    blocks_up: Annotated[list[Positive], Field(min_length=1, max_length=8)] = [1, 1, 1]
    act: Layer = ("RELU", {"inplace": True})
    norm: Layer = ("GROUP", {"num_groups": 8})
    use_conv_final: bool = True
    upsample_mode: Literal["nontrainable", "deconv"] = "nontrainable"

    @model_validator(mode="after")
    def _one_way_up_per_way_down(self) -> Self:
        if len(self.blocks_up) != len(self.blocks_down) - 1:
            raise ValueError(
                f"blocks_up: must have {len(self.blocks_down) - 1} entries,"
                f" got {len(self.blocks_up)}"
            )
        return self

    def strides_per_axis(self) -> tuple[int, int, int]:
        """See the base class."""
        factor = 2 ** (len(self.blocks_down) - 1)
        return (factor, factor, factor)


NetworkArgs = UNetArgs | DynUNetArgs | SegResNetArgs
ARGS_OF: dict[str, type[NetworkArgs]] = {
    "unet": UNetArgs,
    "dynunet": DynUNetArgs,
    "segresnet": SegResNetArgs,
}


class NetworkSpec(BaseModel):
    """The `[network]` table.

    ``output`` says what the head's channels mean: "softmax" for classes that exclude each other.
    ``interpolate`` says what is interpolated from the model's grid to the scanner's before the
    argmax: the usual way (MONAI's `Invertd`) interpolates probabilities.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    architecture: Literal["unet", "dynunet", "segresnet"] = Field(alias="class")
    args: NetworkArgs
    output: Literal["softmax", "sigmoid"] = "softmax"
    interpolate: Literal["probabilities", "logits"] = "probabilities"

    @model_validator(mode="before")
    @classmethod
    def _args_belong_to_the_class(cls, table: Any) -> Any:
        if not isinstance(table, dict):
            return table
        kind = table.get("class", table.get("architecture"))
        args = table.get("args")
        if kind in ARGS_OF and isinstance(args, dict):
            try:
                return {**table, "args": ARGS_OF[kind].model_validate(args)}
            except ValidationError as error:
                first = error.errors(include_url=False)[0]
                what = first["msg"].removeprefix("Value error, ")
                where = ".".join(str(part) for part in first["loc"])
                problem = f"{where}: {what}" if where else what  # ours start with the field
                raise ValueError(f"args.{problem}") from error
        return table

    @model_validator(mode="after")
    def _output_is_supported(self) -> Self:
        if self.output == "sigmoid":
            raise ValueError(
                'output: "sigmoid" (labels that overlap) is not supported; use "softmax"'
            )
        return self
