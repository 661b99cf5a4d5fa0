from __future__ import annotations

from pathlib import Path

from inference.domain.proposal import ProposalState
from inference.storage import proposals
from inference.storage.database import Database
from tests.builders.care import proposal
from tests.builders.service import running_service, service_settings


def test_a_started_service_has_expired_what_was_open_before(tmp_path: Path) -> None:
    with running_service(tmp_path):
        pass
    path = service_settings(tmp_path).data_dir / "clinfer.sqlite3"
    assert path.is_file()
    one = proposal()
    database = Database.open(path)
    with database.write() as connection:
        proposals.store(connection, one, actor="model")
    database.close()
    with running_service(tmp_path):
        database = Database.open(path)
        with database.read() as connection:
            after = proposals.get(connection, one.id)
        database.close()
    assert (after.state, after.reason) == (ProposalState.EXPIRED, "the service was restarted")
