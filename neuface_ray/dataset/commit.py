"""Writing a dataset from many processes at once: open or resume it, count attempts, commit or quarantine segments."""

from __future__ import annotations

import traceback as tracebacks
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from neuface_ray.dataset.attempts import begin_attempt, count_attempts, end_attempts
from neuface_ray.dataset.deleted import read_deletions, share_deletions, sources_of
from neuface_ray.dataset.descriptor import claim, of_dataset
from neuface_ray.dataset.rows import Provenance, Rows, deleted_rows, quarantine_row, segment_row
from neuface_ray.dataset.schema import COMMITTED, DELETED, QUARANTINED, version_of
from neuface_ray.dataset.snapshot import newest_valid_snapshot, part_outcomes, read_snapshot, read_view, snapshot_numbers
from neuface_ray.dataset.staged import (
    Outcome,
    check_segment_id,
    encode,
    list_staged,
    parse_name,
    staged_name,
)
from neuface_ray.dataset.storage import OutputError, Store, open_store
from neuface_ray.dataset.versions import base_path, version_path
from neuface_ray.errors import DataError, NeufaceError, UsageError
from neuface_ray.types import Segment


@dataclass
class Output:
    """A dataset that is being written. Cheap to pickle: open it once in the driver and send it to the workers.

    The way of a segment in a worker::

        if output.attempts(segment.segment_id) >= limit:
            output.quarantine(segment, "annotate", error="worker_died", message="...")
        else:
            output.begin_attempt(segment.segment_id)
            clips = prepare(segment) ...
            output.commit(segment, [clip_rows(clip, sequence, quality, decision, output.provenance) for ...])
    """

    store: Store
    provenance: Provenance
    _known: tuple[int, dict[str, Outcome]] | None = field(default=None, repr=False, compare=False)

    @classmethod
    def open(
        cls, path: str, provenance: Provenance, on_change: str = "refuse", former: Mapping[str, Any] | None = None
    ) -> Output:
        """Open ``path`` for writing, or make it. The same command on the same path continues.

        Args:
            path: folder or URL; provenance: what the rows will be made with.
            on_change: what to do if the rows that are there were made with other settings, another head model or annotator,
                or by a version that gave other results: ``refuse`` (UsageError that shows the differences) or
                ``new_version`` (write to ``PATH.v2``, or the first ``PATH.vN`` that is new or agrees; ``output.path`` says
                which).
            former: what keys of ``provenance.config`` stood for before they existed (``neuface_ray.config.former_settings``).

        Raises UsageError if it cannot be written or holds other rows.
        """
        if on_change not in ("refuse", "new_version"):
            raise UsageError(f"on_change={on_change!r}: must be refuse or new_version")
        version, opened = 1, str(path).rstrip("/")
        while True:
            store = open_store(version_path(opened, version))
            store.open_for_writing()
            differences = claim(store, provenance, former or {})
            if not differences:
                _obey_deletions(store)
                return cls(store, of_dataset(store, provenance))
            if on_change == "refuse":
                raise UsageError(
                    f"{store.root} holds rows that were made differently:\n  " + "\n  ".join(differences) + "\nUse another "
                    "output, restore these values, or set on_change=new_version to write beside it."
                )
            version += 1

    @property
    def path(self) -> str:
        """Where it lies; pass it to ``neuface_ray.open``."""
        return self.store.root

    def __getstate__(self) -> dict:
        return {"store": self.store, "provenance": self.provenance, "_known": None}

    # What is done

    def outcomes(self, segments: Iterable[Segment] = ()) -> dict[str, str]:
        """Outcome (``committed``, ``quarantined`` or ``deleted``) of every segment that has one; call it in the driver.

        Those of ``segments`` that must not be in the dataset are deleted, also if nothing of them ever was there.
        """
        staged = [(parse_name(name)[0], outcome) for name, outcome in list_staged(self.store).items()]
        best = self._published()  # second: what is published meanwhile vanishes from the staged files
        for segment_id, outcome in staged:
            if segment_id not in best or outcome.rank > best[segment_id].rank:
                best[segment_id] = outcome
        found = {segment_id: outcome.kind for segment_id, outcome in best.items()}
        if deletions := read_deletions(self.store):
            not_yet_erased = set().union(*read_view(self.store).erased.values())
            found |= dict.fromkeys(not_yet_erased, DELETED)
            found |= {segment.segment_id: DELETED for segment in segments if deletions.cover_segment(segment)}
        return found

    def pending(self, segments: Iterable[Segment], retry_quarantined: bool = False) -> list[Segment]:
        """The segments that still have to be run, in the order of ``segments``."""
        segments = list(segments)
        done = self.outcomes(segments)
        skipped = {i for i, kind in done.items() if not (retry_quarantined and kind == QUARANTINED)}
        return [segment for segment in segments if segment.segment_id not in skipped]

    def is_done(self, segment_id: str) -> bool:
        """The segment is committed (or deleted for good); quarantined ones are not done. Cheap enough for every segment."""
        outcome = self._outcome(segment_id)
        return outcome is not None and outcome.kind != QUARANTINED

    def is_deleted(self, segment: Segment, sources: Iterable[str] = ()) -> bool:
        """The person, recording or segment was deleted for good, or one of ``sources`` (sha256 of the videos) was."""
        return read_deletions(self.store).cover_segment(segment, sources)

    def _outcome(self, segment_id: str) -> Outcome | None:
        check_segment_id(segment_id)
        found = list(list_staged(self.store, segment_id).values())
        newest = max(snapshot_numbers(self.store), default=0)
        if self._known is None or self._known[0] != newest:
            self._known = (newest, self._published())
        if segment_id in self._known[1]:
            found.append(self._known[1][segment_id])
        return max(found, key=lambda outcome: outcome.rank, default=None)

    def _published(self) -> dict[str, Outcome]:
        for _ in range(10):
            try:
                found: dict[str, Outcome] = {}
                for part in read_snapshot(self.store).parts:
                    found.update(part_outcomes(self.store, part))
                return found
            except FileNotFoundError:
                continue  # a publisher replaced the files of the snapshot
        raise OutputError(
            f"{self.store.root}: a file of the newest snapshot is missing; run `python -m neuface_ray.dataset verify`"
        )

    # Attempts

    def attempts(self, segment_id: str, stage: str | None = None) -> int:
        """How often this run has begun ``stage`` of the segment (None: the stage begun most often). Read it before
        ``begin_attempt``."""
        return count_attempts(self.store, segment_id, self.provenance.run_id, stage)

    def begin_attempt(self, segment_id: str, stage: str = "annotate") -> None:
        """Note that a stage of the segment is begun, so that a segment that kills its workers is not tried for ever."""
        begin_attempt(self.store, segment_id, self.provenance.run_id, stage)

    # Commits

    def commit(self, segment: Segment, clips: Iterable[Rows]) -> bool:
        """Commit everything of a segment: the results of ``clip_rows`` for each of its clips (none is allowed).

        When it returns, the rows are durable and visible to readers, all of them. True if they are this call's; False if the
        segment was committed before (by another worker, run or attempt), whose rows then stand, or must not be in the dataset
        because the person, the recording or the video was deleted.
        Raises OutputError if they cannot be written (the run must stop), DataError if clip ids are repeated.
        """
        check_segment_id(segment.segment_id)
        rows = _concatenated(segment, clips, self.provenance.schema_version)
        if self.is_done(segment.segment_id):
            created = False
        else:
            summary = segment_row(segment, COMMITTED, rows, self.attempts(segment.segment_id), self.provenance.run_id)
            created = self._stage(segment, Outcome(COMMITTED), rows | summary)
        end_attempts(self.store, segment.segment_id)
        return created

    def quarantine(
        self,
        segment: Segment,
        stage: str,
        exception: BaseException | None = None,
        error: str | None = None,
        message: str | None = None,
    ) -> bool:
        """Give a segment up, with the reason as data; it is skipped from now on unless retried.

        Pass the exception, or ``error`` (a short code) and ``message`` when there is none (a worker that died). Returns False
        if the segment was committed meanwhile. A retry that fails again replaces the row.
        """
        segment_id = segment.segment_id
        previous = self._outcome(segment_id)
        if previous is not None and previous.kind != QUARANTINED:
            end_attempts(self.store, segment_id)
            return False
        attempts = (previous.attempts if previous else 0) + max(self.attempts(segment_id), 1)
        if exception is not None:
            error = error or (exception.code if isinstance(exception, NeufaceError) else type(exception).__name__)
            message = message or str(exception)
        trace = "".join(tracebacks.format_exception(exception)) if exception is not None else ""
        rows = quarantine_row(segment, stage, error or "unknown", message or "", trace, attempts, self.provenance)
        summary = segment_row(segment, QUARANTINED, {}, attempts, self.provenance.run_id)
        created = self._stage(segment, Outcome(QUARANTINED, attempts), rows | summary)
        end_attempts(self.store, segment_id)
        return created

    def _stage(self, segment: Segment, outcome: Outcome, tables: Rows) -> bool:
        """The list of deletions is asked before the rows are written, and after, in case it grew meanwhile."""
        segment_id, sources = segment.segment_id, sources_of(tables.get("clips"))
        if self._refuse(segment, sources):
            return False
        name = staged_name(segment_id, outcome)
        created = self.store.create(name, encode(segment_id, outcome, tables))
        if created and self._refuse(segment, sources):
            self.store.remove(name)
            return False
        return created

    def _refuse(self, segment: Segment, sources: set[str]) -> bool:
        """True for what was deleted. A segment that is known by its video alone gets a mark, or it would be computed again."""
        deletions = read_deletions(self.store)
        if not deletions.cover_segment(segment, sources):
            return False
        if not deletions.cover_segment(segment):
            mark = encode(segment.segment_id, Outcome(DELETED), deleted_rows([segment.segment_id]))
            self.store.create(staged_name(segment.segment_id, Outcome(DELETED)), mark)
        return True


def _obey_deletions(store: Store) -> None:
    """Share the list of deletions of the first version; UsageError if it is lost or damaged."""
    try:
        base = base_path(store.root)
        if base != store.root:
            share_deletions(open_store(base), store)
        lost = newest_valid_snapshot(store).erased - read_deletions(store).names
    except OutputError as error:
        raise UsageError(str(error)) from error
    if lost:
        raise UsageError(
            f"{store.root}: {len(lost)} files of its list of deletions are lost, so that it is not known who must not come "
            "back; restore the folder _deleted/"
        )


def _concatenated(segment: Segment, clips: Iterable[Rows], version: int) -> Rows:
    """One table of each kind from those of the clips, in the order of the clip ids."""
    ordered = sorted(clips, key=lambda rows: rows["clips"]["clip_id"][0].as_py())
    ids = [rows["clips"]["clip_id"][0].as_py() for rows in ordered]
    if len(set(ids)) != len(ids):
        raise DataError(f"segment {segment.segment_id}: clip ids are repeated: {ids}", code="inconsistent_clip")
    if any(version_of(rows["clips"].schema) != version for rows in ordered):
        raise UsageError(f"segment {segment.segment_id}: the dataset has schema version {version}; use Output.provenance")
    names = dict.fromkeys(name for rows in ordered for name in rows)
    return {name: pa.concat_tables([rows[name] for rows in ordered if name in rows]) for name in names}
