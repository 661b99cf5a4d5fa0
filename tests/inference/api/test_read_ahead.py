"""The case that waits longest is in memory before anybody opens it."""

from __future__ import annotations

from pathlib import Path

import httpx

from inference.api.deps import ApiContext
from inference.api.read_ahead import ReadAhead
from inference.bootstrap import Service
from tests.builders.dicom import Identity
from tests.builders.reviewing import decide
from tests.builders.service import FakeEngine, finished_study, running_service, send_zip
from tests.builders.two_boxes import two_boxes_study


def context_of(service: Service) -> ApiContext:
    app = service._parts.http._server.config.app  # type: ignore[union-attr]
    context: ApiContext = app.state.context
    return context


def test_the_top_case_is_read_once_and_the_next_when_it_comes_to_the_top(tmp_path: Path) -> None:
    with running_service(tmp_path, FakeEngine((200.0, 500.0)), read_ahead=False) as service:
        ids = []
        for name in ("P1", "P2"):
            study = two_boxes_study(identity=Identity(patient_id=name))
            send_zip(service, study.zipped())
            ids.append(finished_study(service, study.study_uid)["results"][0]["id"])
        context = context_of(service)
        assert context.views.n_bytes == 0
        reader = ReadAhead(context, max_bytes=2**30)
        assert [reader.step(), reader.step()] == [ids[0], None]
        held = context.views.n_bytes
        assert held > 0
        with httpx.Client(base_url=service.http_url, timeout=60) as client:
            assert decide(client, ids[0]).status_code == 200
        assert reader.step() == ids[1]
        assert context.views.n_bytes > held
        full = ReadAhead(context, max_bytes=held)
        assert full.step() is None
