"""Where repair puts what it takes out of a dataset: a folder of its own each time, beside the data, under the old names."""

from __future__ import annotations

import time
import uuid

from neuface_ray.dataset.storage import Store

FOLDER = "_trash"


class Trash:
    """One folder ``_trash/TIME-UUID`` of a dataset, made when something is put into it."""

    def __init__(self, store: Store):
        self._store = store
        self.folder = f"{FOLDER}/{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{uuid.uuid4().hex[:8]}"

    def put(self, name: str) -> None:
        """Move a file of the dataset here; to bring it back, move it to the same path below the dataset."""
        self._store.move(name, f"{self.folder}/{name}")
