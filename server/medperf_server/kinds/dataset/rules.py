"""What a dataset may be, what of it may change, and who it is shown to with all it has."""

from sqlalchemy import select

from medperf_server.base import OPERATION, alike, db
from medperf_server.callers import Caller
from medperf_server.kinds.container.table import Container
from medperf_server.kinds.dataset.table import Dataset
from medperf_server.policy import Values, owns, refuse, require
from medperf_server.schemas import is_uid

OPERATION_FIELDS = {"is_valid", "user_metadata"}


def require_dataset_owner(caller: Caller, uid: object) -> None:
    """The owner of the dataset with this UID, and admins; of one that is not there only they."""
    dataset = db.session.get(Dataset, uid) if is_uid(uid) else None
    require(owns(caller, dataset) if dataset else caller.is_admin)


def check_dataset(values: Values, entity: Dataset | None = None) -> None:
    """Rules for a new dataset, or for changes (`values`) to `entity`."""
    if entity and entity.state == OPERATION:
        _check_fixed(entity, values)
    preparator = values.get("data_preparation_mlcube")
    if preparator is not None and db.session.get(Container, preparator) is None:
        refuse(f"There is no container with UID {preparator}", "data_preparation_mlcube")
    if entity and entity.state != OPERATION == values.get("state"):
        _check_only_one(values.get("generated_uid", entity.generated_uid))


def _check_fixed(entity: Dataset, values: Values) -> None:
    changed = (name for name, value in values.items() if not alike(getattr(entity, name), value))
    if fixed := sorted(set(changed) - OPERATION_FIELDS):
        refuse(f"Dataset {entity.id} is in OPERATION: {', '.join(fixed)} cannot change any more")


def _check_only_one(generated_uid: str) -> None:
    same = select(Dataset.id).filter_by(generated_uid=generated_uid, state=OPERATION)
    twin = db.session.scalar(same)
    if twin is not None:
        refuse(f"Dataset {twin} is in OPERATION with the same data: generated_uid {generated_uid}")
