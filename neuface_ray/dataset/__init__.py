"""The dataset on disk: plain Parquet that nothing can half-write, written by many processes that may die at any moment.

Writing::

    output = Output.open(path, Provenance(run_id, annotator, head.id, config))    # resumes if it is there
    for segment in output.pending(planned): ...
    output.commit(segment, [clip_rows(clip, sequence, quality, decision, output.provenance)])
    output.quarantine(segment, "prepare", exception)
    publish(output.store, minimum_bytes=TARGET_BYTES)      # now and then
    finalise(output.store)                                 # at the end: publish, dataset.json, README.md

Reading: ``neuface_ray.open(path)``, or any tool that reads ``frames/*.parquet``.

On disk
-------
::

    dataset.json  README.md                   what it is, totals; derived, replaced atomically
    _descriptor.json                          dataset.json as it was at the beginning; never changed, stands in if that is lost
    frames/ clips/ vertices/ quarantine/ segments/    public Parquet files, TABLE-SNAPSHOT-PUBLISHER-PART-CONTENTHASH.parquet
    _staged/ab/SEGMENT.OUTCOME                one file per committed segment until it is published (not Parquet by name)
    _snapshots/00000012.json                  which public files belong; the highest number counts
    _attempts/ab/SEGMENT.RUN.STAGE.UUID       segments begun and not finished; empty files
    _deleted/ID.a.json  ID.b.json             the list of those who must not be here, and its copy; only ever added to
    _tmp/                                     bytes that have no name yet
    _trash/TIME-UUID/                         what a repair took out, under its old name; remove it when you are content
    run.json  report/  images/                what commands add: counts of the last run, pictures, crops of synthetic videos

Guarantees
----------
1. **Whole or absent.** All rows of a segment, in all tables, appear at one instant: when its staged file gets its name.
2. **Once.** However many workers, retries, late workers and concurrent runs finish a segment, one of them is committed and
   the others get False. A committed segment outranks a quarantined one; a deleted one outranks both.
3. **Durable.** When ``commit``, ``quarantine``, ``publish`` or ``delete`` returns, power may fail.
4. **Exact for readers at every instant.** ``neuface_ray.open`` shows every committed row once, also during commits and
   publishing and after a crash in the middle of either.
5. **Exact for plain globs** over the public folders whenever no publish is under way or was interrupted: every published
   row once, and after ``finalise`` every row. During a publish that merges files a glob may see old and new ones together; the
   next publish (a resumed run ends with one, ``verify --repair`` too) cleans up after an interrupted one.
6. **Refused, not mixed.** Rows made with other settings, another method, head model, model file, seed, or by a version of the
   program that gives other results (``rows_version``), do not enter. The versions of the program and of libraries are recorded
   and not compared. That holds with ``dataset.json`` lost: its copy stands in, and without that nothing enters. Settings that
   did not exist when the descriptor was written count as what they stand for then, and renamed ones under their present names
   (``descriptor.py``). A dataset of an earlier schema version is continued in it: rows that join have its columns
   (``Output.provenance.schema_version``), so all files of a table have the same ones; a version that is not known is refused.
7. **Deleted for good.** From the moment a person or recording is listed no view of a reader shows them and no commit of theirs
   stays; when ``delete`` returns, no file of any version of the dataset holds their rows, also after a loss of power. Below.

How
---
*Commit*: write to ``_tmp/``, fsync, ``link`` to the final name (fails if it exists: first wins), unlink, fsync the folder.
On object stores: one conditional put. *Publish*: (1) read the view: staged files, then the newest snapshot n; (2) write the
new public files, each atomically and durably, under names that carry n+1; (3) create snapshot n+1 exclusively: this is the
instant that counts, and of concurrent publishers one wins; (4) remove what the snapshot made obsolete.

======================================  ==============================================================================
the process dies                        then
======================================  ==============================================================================
before ``link``                         nothing was committed; the bytes in ``_tmp/`` are removed after six hours
after ``link``, before the return       committed; a retry gets False and adds nothing
before the snapshot of a publish        readers see the old state; its files are dead and the next publish removes them
after it, before the removals           readers see the new state; staged copies are recognised by their segment; as above
while a reader reads                    it notices the missing file, takes the newest view and goes on with what it lacks
while rows are deleted                  listed (hidden at once, the next publish takes the rows out) or not; repeat it
======================================  ==============================================================================

Deletion
--------
*List* first: the keyed hash of the name, twice, in ``_deleted/`` of every version (``PATH``, ``PATH.v2`` ...; a new version
copies the list of the first). *Obey*: readers hide what it covers, ``pending`` leaves it out, ``commit`` and ``quarantine``
ask before they write and again after, and every publisher, whoever it is, writes the parts anew without the rows and notes in
its snapshot which files of the list it obeyed; so a deletion waits for no one, and one that died is finished by the next
publish. Before their rows go, the segments' ids and the hashes of the videos of which nothing else is made are listed too.
*Purge*: files that were written anew are unlinked and their folders synced; ``report/``, ``run.json`` (a run under way writes
its own again, without those who were deleted), pictures of synthetic clips, and what temporary files and the trash hold of
them. Only the purge needs ``delete`` to be repeated if it died.

Kept out later: the person and the recording of that name (Unicode's composed form, letter by letter), at any path; the same
segments (same recording, URIs and range) also without a name; the same video files (sha256, known when they are decoded, so
that the work is done and then refused once) at any path and under any name, unless other rows stay that are made of them. Not
recognised: the same person under another name or none in other files, or in a copy with other bytes. A segment that only ever
was in quarantine has no known video. What is made of the dataset elsewhere (exports, copies, trained models, backups, older
versions of objects in a bucket with versioning) is not reached.

The key of the hashes lies in the list. They keep names from being read there, found with tables made beforehand or compared
between datasets; they do not keep who has the list from trying names. A file of the list that is damaged in both copies, or
missed by the newest snapshot, stops writers, and damaged also readers: nobody knows then who must not be shown. Programs from
before the list do not know it: do not let them write to a dataset in which somebody was deleted.

Repair
------
``verify --repair`` unlinks nothing: what it takes out lies in ``_trash/TIME-UUID/`` under its old name. If the newest snapshot
is damaged or lost, a new one is made from the newest one that is whole and the files that were written after it; the files of
a part are known by the name of their publisher, and in datasets of an old layout (names without a publisher) by their rows. If
some segments of which all rows can be read would be in no part, the repair refuses and changes nothing. Killed anywhere and
repeated it ends the same.

Scope and limits
----------------
POSIX file systems need hard links (checked on opening) and an honest fsync: local disks, NFS, Lustre, GPFS. Object stores need
conditional puts (checked on opening): S3, GCS and compatible servers. Bit rot is detected (a sha256 for every file), not
healed, except that lost segments can be made again. A snapshot must never be edited by hand. Attempt counts survive the death
of processes but not of the machine. Timing columns, ``attempts`` and ``run_id`` differ between runs; all others are the same
row for row if the annotator is deterministic. Deleting a person while a run is under way is safe, but a worker that is killed
within its commit may leave a staged or temporary file of that person, which no reader sees and the next publish or ``delete``
removes. Memory: a publish holds one segment, up to
eight small parts and the part that it writes; a reader holds one file at a time (``scan``, ``iter_torch``) or the table.
"""

from neuface_ray.dataset.commit import Output
from neuface_ray.dataset.delete import delete
from neuface_ray.dataset.finalise import finalise
from neuface_ray.dataset.parquet import TARGET_BYTES
from neuface_ray.dataset.publish import publish
from neuface_ray.dataset.reader import MeshClip, MeshDataset
from neuface_ray.dataset.rows import Provenance, clip_rows, segment_from_json, segment_to_json
from neuface_ray.dataset.storage import OutputError

__all__ = [
    "TARGET_BYTES",
    "MeshClip",
    "MeshDataset",
    "Output",
    "OutputError",
    "Provenance",
    "clip_rows",
    "delete",
    "finalise",
    "publish",
    "segment_from_json",
    "segment_to_json",
]
