"""A reading on the wire."""

from marshmallow import fields

from medperf_server.schemas import EntitySchema, uid_field


class ReadingSchema(EntitySchema):
    """A reading."""

    class Meta(EntitySchema.Meta):
        exclude = ("owner",)

    gadget = uid_field(required=True)
    benchmark = uid_field(required=True)
    value = fields.Integer(required=True, strict=True)
