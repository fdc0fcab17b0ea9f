"""How far a preparation is, told to the registry: at once while it can be reached, else at sync."""

import uuid
from collections.abc import Callable

from medperf_cache.outbox import REFERENCE, Entry, Reference
from medperf_client.datasets.records import Datasets, Record
from medperf_client.errors import MedPerfError
from medperf_client.kinds.dataset import DATASET, dataset_progress
from medperf_client.kinds.form import Entity
from medperf_client.kinds.submission import Submission
from medperf_client.registry.client import Registry


class Progress:
    """Tells a registry of one dataset; `with_shares` if its member allowed more than the status.

    What `tells_of_persons` goes without its stages, too. What goes on is told while it does, and
    lost where nobody hears; the last word of a run is queued, in place of the one before. No
    failure of it fails a preparation.
    """

    def __init__(
        self,
        datasets: Datasets,
        record: Record,
        registry: Registry,
        submit: Callable[[Submission], Entry],
        with_shares: bool,
        tells_of_persons: Callable[[Entity], bool],
    ) -> None:
        self._datasets, self._record = datasets, record
        self._registry, self._submit, self._with_shares = registry, submit, with_shares
        self._tells_of_persons = tells_of_persons
        self._told = dict(record.told)

    def tell(self, summary: Entity, is_last: bool) -> None:
        """Tell how far it is, unless that was the last that was told."""
        if not self._with_shares or self._tells_of_persons(summary):
            summary = {**summary, "progress": {}}
        if summary == self._told:
            return
        try:
            if is_last:
                self._submit(dataset_progress(self._reference, summary))
            elif self._record.uid is not None:
                path = f"{DATASET.path}{self._record.uid}/"
                self._registry.put(path, {"report": summary}, str(uuid.uuid4()))
        except MedPerfError:
            return
        self._told = summary
        if is_last:
            self._datasets.told(self._record, summary)

    @property
    def _reference(self) -> Reference:
        record = self._record
        if record.uid is not None:
            return record.uid
        return {REFERENCE: str(record.entry)}
