"""A dataset on the wire, for its owner and for others."""

from marshmallow import fields, validate

from medperf_server.readable import Short
from medperf_server.schemas import (
    MAX_UID,
    NAME,
    EntitySchema,
    PageQuery,
    State,
    Truth,
    hash_field,
    line_field,
    name_field,
    object_field,
    text_field,
    truth_in_query,
    uid_field,
)


class DatasetSchema(EntitySchema):
    """A dataset."""

    name = name_field(Short(), required=True)
    description = text_field(Short())
    location = line_field(Short())
    input_data_hash = hash_field(required=True, shortest=1)
    generated_uid = hash_field(required=True, shortest=1)
    split_seed = fields.Integer(
        required=True, strict=True, validate=validate.Range(-MAX_UID, MAX_UID)
    )
    data_preparation_mlcube = uid_field(required=True)
    is_valid = Truth()
    submitted_as_prepared = Truth(required=True)
    # A new one is in DEVELOPMENT, whatever a client says.
    state = fields.String(dump_only=True)
    generated_metadata = object_field()
    user_metadata = object_field()
    report = object_field()


class DatasetUpdateSchema(DatasetSchema):
    """Changes to a dataset."""

    state = fields.String(validate=State)


class PublicDatasetSchema(DatasetSchema):
    """What others than its owner learn of a dataset."""

    class Meta(DatasetSchema.Meta):
        exclude = ("owner", "report")


class DatasetQuery(PageQuery):
    """Filters of a list of datasets: by nothing that its rows do not show."""

    name = fields.String(validate=NAME)
    state = fields.String(validate=State)
    is_valid = truth_in_query()
    data_preparation_mlcube = uid_field(strict=False)
