"""The models that are served, and their cards."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path

from inference.api.deps import ApiContext, Context
from inference.api.errors import ApiError
from inference.api.schemas import ModelOut, PageOut
from inference.domain.roles import STAFF, Permissions
from inference.pipeline.spec import ModelSpec

router = APIRouter(prefix="/v1/models", tags=["models"])
PERMISSIONS: Permissions = {
    ("GET", "/v1/models"): STAFF,
    ("GET", "/v1/models/{name}"): STAFF,
}
ModelName = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9_]{0,63}$", examples=["ct_lung_seg"])]


@router.get("", summary="List the models that are served")
def list_models(context: Context) -> PageOut[ModelOut]:
    """Return every model; there is one page."""
    return PageOut(items=[ModelOut.of(spec) for spec in context.models.values()])


@router.get("/{name}", summary="A model's card: everything its model.toml says")
def get_model(context: Context, name: ModelName) -> dict[str, Any]:
    """Return the whole specification: scope, labels, training cases, metrics, limits."""
    return spec_of(context, name).model_dump(mode="json")


def spec_of(context: ApiContext, name: str) -> ModelSpec:
    """Return a served model.

    Raises
    ------
    ApiError
    """
    spec = context.models.get(name)
    if spec is None:
        raise ApiError("not_found", f"no model {name} is served")
    return spec
