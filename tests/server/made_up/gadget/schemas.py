"""A gadget on the wire."""

from marshmallow import Schema, fields

from medperf_server.schemas import EntitySchema, Truth, hash_field, name_field, uid_field


class GadgetSchema(EntitySchema):
    """A gadget."""

    name = name_field(required=True)
    is_private = Truth()
    manual_hash = hash_field()
    battery = fields.Integer(strict=True)


class PublicGadgetSchema(GadgetSchema):
    """What others than its owner learn of a gadget."""

    class Meta(GadgetSchema.Meta):
        exclude = ("battery",)


class GuestSchema(Schema):
    """Whom to show a gadget."""

    user_id = uid_field(required=True)
