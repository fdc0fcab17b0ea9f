"""A dataset's association with a benchmark on the wire."""

from marshmallow import Schema, fields

from medperf_server.schemas import PairSchema, object_field, uid_field


class DatasetAssociationSchema(PairSchema):
    """A dataset's association with a benchmark."""

    dataset = uid_field(required=True)
    benchmark = uid_field(required=True)
    # What the reference model gave on these data, for whoever decides.
    metadata = object_field(attribute="metadata_", required=True)


class BenchmarkDatasetSchema(Schema):
    """A dataset in a benchmark, as the committee's list shows it."""

    dataset = fields.Integer()
    approval_status = fields.String()
    created_at = fields.DateTime(format="iso")
