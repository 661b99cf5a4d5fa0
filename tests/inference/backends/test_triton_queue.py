"""Who is in the next batch: the rule as it stands, without threads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from inference.backends.triton_queue import SHARE, Stage, WindowQueue
from inference.domain.job import Priority
from tests.inference.backends.test_triton_scheduler import Work

STAT, URGENT, ROUTINE = Priority

Arrivals = Mapping[int, Sequence[Work]]
"""Works by the number of the batch before which they come."""


def work(name: str, n_windows: int, priority: Priority = ROUTINE, **more: float) -> Work:
    return Work(name=name, log=[], n_windows=n_windows, priority=priority, **more)  # type: ignore[arg-type]


def drive(batch_size: int, arrivals: Arrivals, *, n_batches: int = 1000) -> list[str]:
    """Do by hand what the scheduler's threads do; return the windows of each batch."""
    queue, batches = WindowQueue(batch_size), []
    for number in range(n_batches):
        for one in arrivals.get(number, ()):
            queue.add(one)
        _volumes(queue)
        while (picked := queue.pick()) is not None and picked.stage is not Stage.READY:
            _step(queue, picked.entries[0])
        if picked is None:
            break
        queue.start(picked)
        windows = [entry.work.next_window() for entry in picked.entries]
        for entry, window in zip(picked.entries, windows, strict=True):
            entry.work.accept(window.upper())
            entry.is_busy = False
            if entry.work.fraction_done == 1.0:
                entry.stage = Stage.COMPUTED
        batches.append("+".join(windows))
    _volumes(queue)
    return batches


def _volumes(queue: WindowQueue) -> None:
    while (entry := queue.pick_volume()) is not None:
        _step(queue, entry)


def _step(queue: WindowQueue, entry: object) -> None:
    assert hasattr(entry, "stage")
    if entry.stage is Stage.WAITING:
        entry.stage = Stage.READY
    else:
        queue.remove([entry])  # type: ignore[list-item]


def test_stat_before_urgent_before_routine_and_equals_as_they_came() -> None:
    works = [work("a", 2), work("b", 1), work("u", 2, URGENT), work("s", 2, STAT)]
    assert drive(1, {0: works}) == ["s0", "s1", "u0", "u1", "a0", "a1", "b0"]


def test_the_earlier_deadline_goes_first_among_equals() -> None:
    works = [work("a", 1), work("b", 1, deadline_s=500.0), work("c", 1, deadline_s=60.0)]
    assert drive(3, {0: works}) == ["c0+b0+a0"]


def test_batches_are_shared_and_studies_join_and_leave_between_them() -> None:
    arrivals = {0: [work("a", 4), work("b", 3)], 1: [work("c", 2)]}
    assert drive(3, arrivals) == ["a0+a1+a2", "a3+b0+b1", "b2+c0+c1"]


def test_a_stat_study_is_in_the_batch_after_its_arrival_and_the_rest_of_it_is_filled() -> None:
    arrivals = {0: [work("a", 9)], 2: [work("s", 3, STAT)]}
    assert drive(2, arrivals) == ["a0+a1", "a2+a3", "s0+s1", "s2+a4", "a5+a6", "a7+a8"]


def test_a_flood_of_stat_leaves_the_oldest_other_one_batch_in_sixteen() -> None:
    arrivals = {4 * k: [work(f"s{k}-", 4, STAT)] for k in range(60)}
    arrivals[0] = [*arrivals[0], work("u", 1, URGENT), work("a", 2)]
    batches = drive(1, arrivals, n_batches=4 * SHARE)
    served = [k for k, batch in enumerate(batches) if batch[0] != "s"]
    # Due at 15, 31, ...; one later where a STAT study begins there.
    assert [batches[k] for k in served[:3]] == ["u0", "a0", "a1"]
    assert [later - earlier for earlier, later in zip([-1, *served], served[:3], strict=False)] == [
        SHARE,
        SHARE,
        SHARE,
    ]


def test_a_stat_study_about_to_begin_goes_before_the_overtaken_but_not_for_ever() -> None:
    # Every STAT study has one window, so at each batch one is about to begin.
    stat = [work(f"s{k}-", 1, STAT) for k in range(3 * SHARE)]
    batches = drive(1, {0: [work("a", 1), *stat]})
    assert batches[: 2 * SHARE - 1] == [f"s{k}-0" for k in range(2 * SHARE - 1)]
    assert batches[2 * SHARE - 1] == "a0"


def test_few_studies_of_a_class_are_prepared_ahead() -> None:
    queue = WindowQueue(1)
    for name in "abcd":
        queue.add(work(name, 1))
    queue.add(work("u", 1, URGENT))
    prepared = []
    while (entry := queue.pick_volume()) is not None:
        entry.stage = Stage.READY
        prepared.append(entry.work.name)  # type: ignore[attr-defined]
    assert prepared == ["u", "a", "b"], "urgent work has room of its own"


def test_labels_are_finished_before_another_volume_is_prepared() -> None:
    queue = WindowQueue(1)
    queue.add(work("a", 1))
    queue.add(work("u", 1, URGENT))
    queue.entries[0].stage = Stage.COMPUTED
    first = queue.pick_volume()
    assert first is queue.entries[0]
