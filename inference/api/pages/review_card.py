"""What the study page offers a person to decide: hashes of what it shows, addresses, words."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any

from inference.api.access import Identity
from inference.api.deps import ApiContext
from inference.api.pages.render import STATIC_FOLDER
from inference.api.pages.review_words import (
    DECISIONS,
    KEYS,
    REASONS,
    WORDS,
    Language,
    report_text,
)
from inference.domain.result import Result
from inference.domain.review import Review
from inference.jobs.review_desk import DECIDABLE
from inference.storage import review_drafts
from inference.storage import reviews as review_store
from inference.version import SOFTWARE_VERSION

CT_RANGE_HU = (-200.0, 300.0)
"""What a threshold inside the brush begins with on CT; the person sets it."""


def review_card(
    context: ApiContext, identity: Identity, result: Result, language: Language
) -> dict[str, Any] | None:
    """Return what the review card shows; None where a result is nothing to decide about."""
    if context.reviews is None or result.outcome not in DECIDABLE:
        return None
    with context.database.read() as connection:
        decided = review_store.review_of(connection, result.id)
        behind = review_store.review_behind(connection, result.id)
        following = review_store.next_undecided(connection, not_study_uid=result.study_uid)
        n_slices = review_drafts.count(connection, result.id, identity.name)
    spec = context.models.get(result.model)
    units = {segment["unit"] for segment in result.summary.get("segments", ())}
    hu = "[hnsf'U]" in units
    is_open = decided is None and result.is_current
    shown = decided or behind
    return {
        "language": language,
        "words": WORDS[language],
        "reasons": [(code.value, text) for code, text in REASONS[language].items()],
        "key_list": KEYS[language],
        "decided": _sentence(shown, language) if shown else "",
        "comment": shown.comment if shown else "",
        "next_url": f"/studies/{following[0]}?result={following[1]}" if following else "",
        "text": report_text(
            result, spec.title if spec else result.model, "HU" if hu else "", language
        ),
        "range": CT_RANGE_HU if hu else (0.0, 1000.0),
        "page": _page(context, identity, result, n_slices) if is_open else None,
    }


def _page(context: ApiContext, identity: Identity, result: Result, n_slices: int) -> dict[str, Any]:
    """Return what the page's script sends back with a decision."""
    assert context.reviews is not None, "the caller has checked"
    sha256 = {file.kind: file.sha256 for file in result.files}
    return {
        "decision_url": f"/v1/results/{result.id}/decision",
        "draft_url": f"/v1/results/{result.id}/draft",
        "next_url": f"/v1/reviews/next?after={result.study_uid}",
        "result_sha256": sha256.get("result", ""),
        # With a draft the script learns the stamp when it has loaded the draft.
        "overlay_sha256": sha256.get("labels", ""),
        "n_draft_slices": n_slices,
        "page_version": page_version(),
    }


def _sentence(review: Review, language: Language) -> str:
    return WORDS[language]["decided"].format(
        decision=DECISIONS[language][review.decision.value],
        person=review.person,
        at=f"{review.decided_at:%Y-%m-%d %H:%M}",
    )


@cache
def page_version() -> str:
    """Return the version of the page: of the software, and a hash of the scripts that draw."""
    digest = hashlib.sha256()
    for path in sorted(STATIC_FOLDER.glob("*.js")):
        digest.update(path.read_bytes())
    return f"{SOFTWARE_VERSION}+{digest.hexdigest()[:12]}"
