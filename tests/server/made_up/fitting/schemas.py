"""A fitting on the wire."""

from marshmallow import Schema, fields

from medperf_server.schemas import EntitySchema, Status, uid_field


class FittingSchema(EntitySchema):
    """A fitting."""

    class Meta(EntitySchema.Meta):
        exclude = ("owner",)

    gadget = uid_field(required=True)
    benchmark = uid_field(required=True)
    initiated_by = fields.Integer(dump_only=True)
    approval_status = fields.String(validate=Status)


class DecisionSchema(Schema):
    """What was decided."""

    approval_status = fields.String(required=True, validate=Status)
