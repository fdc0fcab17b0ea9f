"""A model's association with a benchmark on the wire."""

from marshmallow import Schema, fields, validate

from medperf_server.schemas import MAX_UID, DecisionSchema, PairSchema, uid_field


class AssociationSchema(PairSchema):
    """A model's association with a benchmark."""

    model_mlcube = uid_field(required=True)
    benchmark = uid_field(required=True)
    priority = fields.Integer(dump_only=True)


class AssociationUpdateSchema(DecisionSchema):
    """What of an association can change."""

    priority = fields.Integer(strict=True, validate=validate.Range(-MAX_UID, MAX_UID))


class BenchmarkModelSchema(Schema):
    """A model in a benchmark, as the lists of its committee and of data owners show it."""

    model_mlcube = fields.Integer()
    approval_status = fields.String()
    created_at = fields.DateTime(format="iso")
