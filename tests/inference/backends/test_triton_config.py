"""config.pbtxt: made from model.toml, accepted by Triton's own parser, and not edited by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from inference.backends.triton_config import CONFIG_FILE, check_config, render_config
from inference.domain.errors import ModelError
from inference.pipeline.spec import list_models, load_spec, parse_spec
from tests.inference.backends.conftest import TINY, tiny_table, write_model

REPOSITORY = Path(__file__).resolve().parents[3]


def rendered(*, n_labels: int) -> model_config_pb2.ModelConfig:
    """The configuration as Triton's schema reads it."""
    text = render_config(parse_spec(tiny_table(TINY, n_labels=n_labels)))
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def test_says_what_the_contract_says() -> None:
    config = rendered(n_labels=3)
    assert (config.name, config.backend, config.max_batch_size) == (TINY, "clinfer", 0)
    assert config.model_transaction_policy.decoupled
    assert {
        tensor.name: (
            model_config_pb2.DataType.Name(tensor.data_type),
            list(tensor.dims),
            tensor.optional,
        )
        for tensor in config.input
    } == {
        "volume_int16": ("TYPE_INT16", [-1, -1, -1], True),
        "volume_float32": ("TYPE_FP32", [-1, -1, -1], True),
        "affine_lps": ("TYPE_FP64", [4, 4], False),
        "priority": ("TYPE_INT32", [1], True),
        "deadline_s": ("TYPE_FP64", [1], True),
    }
    assert {
        tensor.name: (model_config_pb2.DataType.Name(tensor.data_type), list(tensor.dims))
        for tensor in config.output
    } == {"labels": ("TYPE_UINT8", [-1, -1, -1]), "report": ("TYPE_STRING", [1])}


@pytest.mark.parametrize(("n_labels", "expected"), [(255, "TYPE_UINT8"), (256, "TYPE_UINT16")])
def test_labels_are_wide_enough_for_every_structure(n_labels: int, expected: str) -> None:
    labels = rendered(n_labels=n_labels).output[0]
    assert model_config_pb2.DataType.Name(labels.data_type) == expected


def test_a_title_cannot_add_fields() -> None:
    table = tiny_table(TINY) | {"title": 'Title"\nmax_batch_size: 7\n#'}
    config = text_format.Parse(render_config(parse_spec(table)), model_config_pb2.ModelConfig())
    assert config.max_batch_size == 0


@pytest.mark.parametrize("name", list_models(REPOSITORY / "model_repo"))
def test_the_committed_one_is_what_model_toml_gives(name: str) -> None:
    folder = REPOSITORY / "model_repo" / name
    check_config(folder, load_spec(folder))


def test_an_edited_one_is_named_with_its_line(tmp_path: Path) -> None:
    spec = write_model(tmp_path, tiny_table(TINY))
    folder = tmp_path / TINY
    check_config(folder, spec)
    path = folder / CONFIG_FILE
    path.write_text(path.read_text().replace("max_batch_size: 0", "max_batch_size: 4"))
    with pytest.raises(ModelError, match=r"config\.pbtxt: line 5 is 'max_batch_size: 4'"):
        check_config(folder, spec)
    path.unlink()
    with pytest.raises(ModelError, match=r"config\.pbtxt"):
        check_config(folder, spec)
