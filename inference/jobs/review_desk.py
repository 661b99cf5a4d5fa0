"""Where a person's decision about a result becomes record, objects, deliveries and training row.

Everything that a decision changes is one transaction: of two people at once one decides, and the
other is told who, when and what. Files are written before it; a loser's are orphans for the sweep.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection

from dicom_io.results import Segment
from dicom_io.reviewed import Reader
from inference.domain.report import ReportStep
from inference.domain.result import Destination, Result, ResultState
from inference.domain.review import (
    AlreadyDecidedError,
    Decision,
    DecisionFieldError,
    Effort,
    NotReviewableError,
    RejectReason,
    Review,
    Scanner,
    Shown,
    ShownOutdatedError,
)
from inference.jobs.corrections import (
    Change,
    correction_draft,
    overlay_stamp,
    segments_of,
)
from inference.jobs.index_entry import add_files_to_index, index_result_files
from inference.jobs.release import retract_result, retract_superseded
from inference.jobs.review_files import VERIFIED_KIND, Drawn, ReviewFiles, sha256_of
from inference.jobs.worker import file_draft, stored_file
from inference.pipeline.spec import ModelSpec
from inference.storage import (
    audit,
    deliveries,
    report_events,
    results,
    review_drafts,
    reviews,
    studies,
    training_set,
)
from inference.storage.database import Database
from inference.storage.objects import ObjectStore
from inference.storage.results import FiledResult
from inference.telemetry import get_logger

logger = get_logger(__name__)

MAX_COMMENT = 1000
DECIDABLE = frozenset({ResultState.FINDING, ResultState.NO_FINDING})


class ReviewDesk:
    """Takes decisions."""

    def __init__(
        self,
        *,
        database: Database,
        objects: ObjectStore,
        models: Mapping[str, ModelSpec],
        destinations: Sequence[Destination] = (),
        encodings: tuple[str, ...] = (),
    ) -> None:
        self._database, self._objects = database, objects
        self._models, self._destinations = models, tuple(destinations)
        self._encodings = encodings
        self._files = ReviewFiles(database, objects, models)

    def accept(self, result_id: int, *, person: str, shown: Shown, comment: str = "") -> Review:
        """Accept what was shown: the machine's labels, or with the person's draft over them.

        Raises
        ------
        AlreadyDecidedError, ShownOutdatedError, NotReviewableError, DicomIoError
            Nothing was decided.
        """
        result, slices = self._opened(result_id, person, shown)
        _check_comment(comment)
        if slices:
            drawn = self._files.drawn(result, slices)
            if drawn.change.effort is not Effort.UNTOUCHED:
                return self._correct(result, drawn, person, shown, comment)
        return self._accept(result, person, shown, comment)

    def reject(
        self, result_id: int, *, person: str, shown: Shown, reason: str, comment: str = ""
    ) -> Review:
        """Reject a result for a coded reason.

        Raises
        ------
        DecisionFieldError, AlreadyDecidedError, ShownOutdatedError, NotReviewableError
        """
        if reason not in set(RejectReason):
            raise DecisionFieldError(
                field="reason", problem=f"{reason!r} is not one of {', '.join(RejectReason)}"
            )
        if reason == RejectReason.OTHER and not comment.strip():
            raise DecisionFieldError(field="comment", problem="reason 'other' needs one")
        _check_comment(comment)
        result, _ = self._opened(result_id, person, shown)
        scanner = self._files.scanner(result)
        with self._database.write() as connection:
            now = self._database.now(connection)
            _check_open(connection, result.id)
            review = reviews.record(
                connection,
                result,
                decision=Decision.REJECT,
                person=person,
                shown=shown,
                scanner=scanner,
                reason_code=reason,
                comment=comment,
                now=now,
            )
            training_set.remove(connection, series_uid=result.series_uid, model=result.model)
            retract_result(
                connection,
                result.id,
                reason=f"rejected by a reader: {reason}" + (f"; {comment}" if comment else ""),
                by=f"person:{person}",
                now=now,
            )
            self._end(connection, review, now)
        return review

    def stamp(self, result: Result, person: str) -> str:
        """Return the hash of the overlay as a person sees it now: labels with their own draft."""
        with self._database.read() as connection:
            slices = self._slices(connection, result, person)
        return overlay_stamp(sha256_of(result, "labels"), slices)

    def _opened(self, result_id: int, person: str, shown: Shown) -> tuple[Result, dict[int, bytes]]:
        with self._database.read() as connection:
            result = results.get_result(connection, result_id)
            earlier = reviews.review_of(connection, result_id)
            slices = self._slices(connection, result, person)
        if earlier is not None:
            raise AlreadyDecidedError(earlier)
        if result.outcome not in DECIDABLE:
            raise NotReviewableError(
                result_id=result_id, problem=f"it is {result.outcome.value}: there is no overlay"
            )
        if not result.is_current:
            raise NotReviewableError(
                result_id=result_id, problem="a later result took its place; open the study again"
            )
        for field, seen, stored in (
            ("result_sha256", shown.result_sha256, sha256_of(result, "result")),
            (
                "overlay_sha256",
                shown.overlay_sha256,
                overlay_stamp(sha256_of(result, "labels"), slices),
            ),
        ):
            if seen != stored:
                raise ShownOutdatedError(field=field, shown=seen[:12], stored=stored[:12])
        return result, slices

    def _accept(self, result: Result, person: str, shown: Shown, comment: str) -> Review:
        scanner = self._files.scanner(result)
        out = self._objects.new_temporary("-review")
        out.mkdir()
        try:
            with self._database.read() as connection:
                at = self._database.now(connection)
            verified = self._files.verified(
                result, Reader(name=person, organization=scanner.site), at, out
            )
            file = None if verified is None else stored_file(self._objects, VERIFIED_KIND, verified)
        finally:
            shutil.rmtree(out, ignore_errors=True)
        indexed = index_result_files([] if file is None else [file], self._objects)
        with self._database.write() as connection:
            now = self._database.now(connection)
            _check_open(connection, result.id)
            review = self._record(
                connection, result, Decision.ACCEPT, person, shown, scanner, comment, now
            )
            if file is not None:
                results.add_files(connection, result.id, [file])
                add_files_to_index(connection, indexed, result.id)
            report_events.note(connection, result.id, ReportStep.ACCEPTED, now=now, actor=person)
            self._add_row(
                connection, review, result, result.id, None, sha256_of(result, "labels"), now
            )
            self._offer(connection, result.id, now)
            self._end(connection, review, now)
        self._database.notify()
        return review

    def _correct(
        self, result: Result, drawn: Drawn, person: str, shown: Shown, comment: str
    ) -> Review:
        spec = self._models.get(result.model)
        segments_of(result, spec)
        assert spec is not None, "segments_of refuses a result without its model"
        scanner, change = self._files.scanner(result), drawn.change
        out = self._objects.new_temporary("-review")
        out.mkdir()
        try:
            with self._database.read() as connection:
                at = self._database.now(connection)
            draft = correction_draft(
                result,
                drawn.volume,
                drawn.labels,
                change=change,
                spec=spec,
                reader=Reader(name=person, organization=scanner.site),
                encodings=self._encodings,
                machine_files={file.kind: self._objects.path(file.sha256) for file in result.files},
                at=at,
                out=out,
            )
            filed = file_draft(self._objects, draft)
        finally:
            shutil.rmtree(out, ignore_errors=True)
        return self._store_correction(result, filed, change, person, shown, scanner, comment)

    def _store_correction(
        self,
        result: Result,
        filed: FiledResult,
        change: Change,
        person: str,
        shown: Shown,
        scanner: Scanner,
        comment: str,
    ) -> Review:
        indexed = index_result_files(filed.files, self._objects)
        with self._database.write() as connection:
            now = self._database.now(connection)
            _check_open(connection, result.id)
            new_id = results.store_correction(connection, result, filed, now=now)
            add_files_to_index(connection, indexed, new_id)
            report_events.note(connection, new_id, ReportStep.ACCEPTED, now=now, actor=person)
            review = self._record(
                connection, result, Decision.CORRECT, person, shown, scanner, comment, now,
                change=change, new_result_id=new_id,
            )  # fmt: skip
            sha256 = next(file.sha256 for file in filed.files if file.kind == "labels")
            self._add_row(connection, review, result, new_id, change, sha256, now)
            retract_superseded(connection, [result.id], by=f"person:{person}", now=now)
            self._offer(connection, new_id, now)
            self._end(connection, review, now)
        self._database.notify()
        return review

    def _record(
        self,
        connection: Connection,
        result: Result,
        decision: Decision,
        person: str,
        shown: Shown,
        scanner: Scanner,
        comment: str,
        now: datetime,
        *,
        change: Change | None = None,
        new_result_id: int | None = None,
    ) -> Review:
        return reviews.record(
            connection,
            result,
            decision=decision,
            person=person,
            shown=shown,
            scanner=scanner,
            comment=comment,
            effort=Effort.UNTOUCHED if change is None else change.effort,
            lowest_dice=1.0 if change is None else change.lowest_dice,
            changed_ml=0.0 if change is None else change.changed_ml,
            new_result_id=new_result_id,
            now=now,
        )

    def _add_row(
        self,
        connection: Connection,
        review: Review,
        result: Result,
        result_id: int,
        change: Change | None,
        labels_sha256: str,
        now: datetime,
    ) -> None:
        """Add the training row: what stands now, against what the machine had drawn."""
        if not labels_sha256:
            return
        names = {one.label: one.name for one in self._segments(result)}
        dice = {} if change is None else change.dice
        effort = Effort.UNTOUCHED if change is None else change.effort
        behind = reviews.review_behind(connection, result.id)
        if change is None and behind is not None and behind.effort is not None:
            effort = behind.effort  # a second reader's agreement does not undo the first's work
        study = studies.get_study(connection, result.study_uid)
        # Without an identifier nobody knows whose study it is: it stands for itself.
        patient = study.patient_id or result.study_uid
        training_set.add(
            connection,
            review,
            result_id=result_id,
            series_uid=result.series_uid,
            key=training_set.patient_key(connection, patient, study.issuer_of_patient_id, now=now),
            effort=effort,
            dice={names.get(label, str(label)): value for label, value in dice.items()},
            labels_sha256=labels_sha256,
            machine_sha256=sha256_of(result, "labels"),
            now=now,
        )

    def _segments(self, result: Result) -> Sequence[Segment]:
        spec = self._models.get(result.model)
        return () if spec is None else spec.segments

    def _offer(self, connection: Connection, result_id: int, now: datetime) -> None:
        """Put what is new in the outboxes, each by its destination's release rule.

        Accepting is not signing: what waits for the report's signature goes on waiting.
        """
        deliveries.enqueue(connection, result_id, destinations=self._destinations, now=now)

    def _end(self, connection: Connection, review: Review, now: datetime) -> None:
        review_drafts.discard(connection, review.result_id, review.person)
        audit.append(
            connection,
            at=now,
            actor=f"person:{review.person}",
            action=f"review.{review.decision.value}",
            subject=review.study_uid,
            detail={
                "review": review.id,
                "result": review.result_id,
                "new_result": review.new_result_id,
                "reason": review.reason_code,
                "overlay_sha256": review.shown.overlay_sha256,
            },
        )

    def _slices(self, connection: Connection, result: Result, person: str) -> dict[int, bytes]:
        return review_drafts.load(connection, result.id, person)


def _check_open(connection: Connection, result_id: int) -> None:
    """Refuse, as the only writer, what somebody decided or a later result replaced meanwhile."""
    earlier = reviews.review_of(connection, result_id)
    if earlier is not None:
        raise AlreadyDecidedError(earlier)
    if not results.get_result(connection, result_id).is_current:
        raise NotReviewableError(
            result_id=result_id, problem="a later result took its place; open the study again"
        )


def _check_comment(comment: str) -> None:
    if len(comment) > MAX_COMMENT:
        raise DecisionFieldError(
            field="comment", problem=f"has {len(comment)} characters, at most {MAX_COMMENT}"
        )
