"""Late, duplicate, conflicting, out-of-order and interrupted slices (AC-05): one current result."""

from __future__ import annotations

import random

import pytest

from inference.domain.result import ResultState
from inference.domain.study import Sender
from inference.jobs.errors import ConflictError
from inference.jobs.intake import Intake
from inference.jobs.worker import Worker
from inference.storage import audit, jobs, results
from inference.storage.database import Database
from inference.storage.objects import ObjectStore
from tests.builders.clock import SetClock
from tests.builders.instances import ct_file, study_uid
from tests.inference.jobs.conftest import CountingProcessor

N_SLICES = 4
SCENARIOS = {
    "all in order": "send",
    "out of order": "shuffle send",
    "every slice twice": "send resend",
    "slices twice, mixed": "shuffle double send",
    "one late slice": "hold send wait release wait",
    "two late slices, apart": "hold hold send wait release wait release wait",
    "late slice before the first job began": "hold send release wait",
    "late slice while the job runs": "hold send running wait",
    "conflicting slice": "send conflict",
    "conflicting slice after the result": "send wait conflict wait",
    "late duplicate": "send wait resend wait",
    "worker killed, then a late slice": "hold send killed release wait",
}


class Scene:
    """Acts out one scenario on one study."""

    def __init__(
        self, intake: Intake, worker: Worker, clock: SetClock, sender: Sender, study: int
    ) -> None:
        self.intake, self.worker, self.clock, self.sender = intake, worker, clock, sender
        self.study = study
        self.chance = random.Random(study)  # noqa: S311 - no secret
        self.to_send = list(range(1, N_SLICES + 1))
        self.held: list[int] = []

    def _receive(self, number: int, **changes: object) -> None:
        data = ct_file(study=self.study, slice_number=number, **changes)
        self.intake.receive([data], sender=self.sender)

    def shuffle(self) -> None:
        self.chance.shuffle(self.to_send)

    def double(self) -> None:
        self.to_send += self.chance.sample(self.to_send, 2)
        self.chance.shuffle(self.to_send)

    def hold(self) -> None:
        self.held.append(self.to_send.pop(self.chance.randrange(len(self.to_send))))

    def send(self) -> None:
        for number in self.to_send:
            self._receive(number)
            self.clock.advance(self.chance.uniform(0, 4.9))

    resend = send

    def release(self) -> None:
        self._receive(self.held.pop())

    def conflict(self) -> None:
        with pytest.raises(ConflictError):
            self._receive(self.chance.choice(self.to_send), fill=9)

    def wait(self) -> None:
        self.clock.advance(5)
        while self.worker.run_once():
            pass

    def running(self) -> None:
        processor = self.worker.processor
        assert isinstance(processor, CountingProcessor)
        processor.before = lambda study, progress: self.release() if self.held else None
        self.clock.advance(5)
        self.worker.run_once()

    def killed(self) -> None:
        self.clock.advance(5)
        with self.worker.database.write() as connection:
            jobs.claim(connection, now=self.clock.now(), owner="killed", policy=self.worker.policy)
        self.clock.advance(self.worker.policy.lease_s + 1)


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_ends_with_one_current_result_over_all_slices(
    intake: Intake,
    database: Database,
    objects: ObjectStore,
    clock: SetClock,
    sender: Sender,
    name: str,
) -> None:
    worker = Worker(database=database, objects=objects, processor=CountingProcessor())
    for study in range(1, 21):  # twenty seeds
        worker.processor = CountingProcessor()
        scene = Scene(intake, worker, clock, sender, study)
        for step in SCENARIOS[name].split():
            getattr(scene, step)()
        scene.wait()
        with database.read() as connection:
            (current,) = results.list_results(connection, study_uid=study_uid(study))
            everything = results.list_results(
                connection, study_uid=study_uid(study), current_only=False
            )
        assert current.state is ResultState.FINDING, study
        assert current.summary["n_instances"] == N_SLICES, study
        assert all(
            row.state is ResultState.SUPERSEDED for row in everything if row.id != current.id
        )
    with database.read() as connection:
        audit.verify(connection)
