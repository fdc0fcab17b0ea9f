"""A result on the wire, and a ranking of models by results."""

from marshmallow import Schema, fields, validate

from medperf_server.readable import Short
from medperf_server.schemas import (
    SHOWN,
    EntitySchema,
    Status,
    Truth,
    name_field,
    object_field,
    truth_in_query,
    uid_field,
)


class ResultSchema(EntitySchema):
    """A result."""

    name = name_field(Short(), shortest=0)
    benchmark = uid_field(required=True)
    model = uid_field(required=True)
    dataset = uid_field(required=True)
    results = object_field(required=True, allow_none=False)
    metadata = object_field(attribute="metadata_")
    user_metadata = object_field()
    approval_status = fields.String(dump_only=True)
    approved_at = fields.DateTime(format="iso", dump_only=True, allow_none=True)
    is_valid = Truth()
    signed_by = fields.String(dump_only=True)


class ResultUpdateSchema(ResultSchema):
    """Changes to a result, which never are of what was achieved."""

    class Meta(ResultSchema.Meta):
        dump_only = ("benchmark", "model", "dataset", "results")

    approval_status = fields.String(validate=Status)


class RankingQuery(Schema):
    """What is asked of a ranking."""

    class Meta:
        unknown = "exclude"

    # As long as the path of a figure can be, and more.
    metric = fields.String(load_default="", validate=[validate.Length(max=1000), SHOWN])
    # Of a metric that the benchmark does not describe.
    better = fields.String(load_default="", validate=validate.OneOf(["", "higher", "lower"]))
    # `partial` is a name of marshmallow's.
    counts_partial = truth_in_query(data_key="partial", attribute="partial", load_default=True)
    withdrawn = truth_in_query(load_default=False)
    unsigned = truth_in_query(load_default=True)
    revoked = truth_in_query(load_default=True)


class RankedMetricSchema(Schema):
    """The metric by which models are ranked."""

    name = fields.String()
    better = fields.Function(lambda one: "higher" if one.higher_is_better else "lower")
    is_described = fields.Boolean()


def _number() -> fields.Float:
    return fields.Float(allow_none=True)


class RankedSiteSchema(Schema):
    """A site of a ranking; without its dataset's UID where it is told as "site A"."""

    dataset = fields.Integer(attribute="uid", allow_none=True)
    name = fields.String()
    is_own = fields.Boolean()
    is_compared = fields.Boolean()


class RankedResultSchema(Schema):
    """A model's result at a site."""

    value = fields.Float(attribute="estimate.value", allow_none=True, dump_default=None)
    low = fields.Float(attribute="estimate.low", allow_none=True, dump_default=None)
    high = fields.Float(attribute="estimate.high", allow_none=True, dump_default=None)
    marks = fields.List(fields.String())
    rank = _number()
    result = fields.Integer(allow_none=True)


class PooledSchema(Schema):
    """What a model achieved at all sites together."""

    value, low, high = _number(), _number(), _number()
    sites = fields.Integer()
    method = fields.String()
    tau2, q, i2 = _number(), _number(), _number()


class RankedModelSchema(Schema):
    """A model of a ranking: its result at each site, in the order of the sites."""

    model = fields.Integer(attribute="model.uid")
    name = fields.String(attribute="model.name")
    is_reference = fields.Boolean(attribute="model.is_reference")
    results = fields.List(fields.Nested(RankedResultSchema, allow_none=True), attribute="cells")
    pooled = fields.Nested(PooledSchema, allow_none=True)
    place = fields.Integer(attribute="place.place", allow_none=True, dump_default=None)
    mean_rank = fields.Float(attribute="place.mean_rank", allow_none=True, dump_default=None)
    shares = fields.List(fields.Float(), allow_none=True)
    ahead = _number()


class RankingSchema(Schema):
    """Models by a metric at sites, as much of it as the caller is told."""

    metric = fields.Nested(RankedMetricSchema)
    metrics = fields.List(fields.String(), attribute="names")
    is_whole = fields.Boolean()
    sites = fields.Nested(RankedSiteSchema, many=True)
    models = fields.Nested(RankedModelSchema, many=True, attribute="rows")
    unsure = fields.String()
    left_out = fields.Dict(keys=fields.String(), values=fields.Integer())
    is_cut = fields.Boolean()
