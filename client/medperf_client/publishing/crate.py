"""Results as a research object: an RO-Crate 1.1 that is a Process Run Crate 0.5.

See https://w3id.org/ro/crate/1.1 and https://w3id.org/ro/wfrun/process/0.5. Each run of a model is
an action, with the model as its instrument and the results document as what it gave.
"""

import json
import sys
from collections.abc import Iterator
from datetime import datetime
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from medperf_client.errors import Unsignable
from medperf_client.evidence.statement import canonical
from medperf_client.kinds import BENCHMARK, CONTAINER, DATASET, KEY, RESULT, Entity, kind_of
from medperf_client.kinds.container import PINS
from medperf_client.kinds.result import STATEMENT, said_of
from medperf_client.publishing.collection import Collection, flags
from medperf_client.publishing.table import as_csv

if TYPE_CHECKING:
    from rocrate.rocrate import ROCrate

VERSION = "1.1"
PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
# Terms that the context of RO-Crate 1.1 lacks.
TERMS = {"sha256": "http://schema.org/sha256"}
JSON, CSV, PEM = "application/json", "text/csv", "application/x-pem-file"
# See https://github.com/secure-systems-lab/dsse.
ENVELOPE = "application/vnd.dsse.envelope.v1+json"
NO_LICENSE = "None was given: who wants to use these results asks the owner of the benchmark."
DONE = "http://schema.org/CompletedActionStatus"


def write_crate(collection: Collection, folder: Path, at: str, license_url: str) -> None:
    """Write a crate of results to a folder; `at` is when, ISO 8601, `license_url` may be empty."""
    # With no preview: what rocrate writes has the names of other members in it as HTML.
    crate = _rocrate().ROCrate(version=VERSION)
    crate.metadata.extra_terms = dict(TERMS)
    _Crate(crate, collection).describe(at, license_url)
    crate.write(folder)


def _rocrate() -> ModuleType:
    """The module `rocrate.rocrate`, imported alone.

    It also imports requests, which opens a socket to look for IPv6; nothing that is written here is
    asked for.
    """
    here = "requests" in sys.modules
    if not here:
        sys.modules["requests"] = ModuleType("requests")
    try:
        from rocrate import rocrate
    finally:
        if not here:
            del sys.modules["requests"]
    return rocrate


def _entity_files(collection: Collection) -> Iterator[tuple[str, Entity]]:
    """Everything that the registry knows of what is in a crate, each by its path there."""
    yield f"entities/{BENCHMARK.word}-{collection.benchmark['id']}.json", collection.benchmark
    for kind, entities in collection.entities.items():
        for uid, entity in entities.items():
            yield f"entities/{kind_of(kind).word.replace(' ', '-')}-{uid}.json", entity
    for result in collection.results:
        yield f"entities/{RESULT.word}-{result['id']}.json", result


def document(result: Entity) -> bytes:
    """A results document as its statement has it, so that its SHA-256 is what was signed."""
    try:
        return canonical(result["results"])
    except Unsignable:
        # Nobody signed it.
        return _json(result["results"])


class _Crate:
    """Puts a collection into a crate, piece by piece."""

    def __init__(self, crate: "ROCrate", collection: Collection) -> None:
        self._crate, self._collection = crate, collection
        # To ask the crate for what is not there takes the longer the more is.
        self._made: dict[str, Any] = {}

    def describe(self, at: str, license_url: str) -> None:
        """Put all of it in."""
        collection, root = self._collection, self._crate.root_dataset
        benchmark = collection.benchmark
        of = f"benchmark {benchmark['id']} ({benchmark['name']}) of {collection.registry}"
        root["name"] = f"Results of {benchmark['name']}"
        told = (
            f"What models achieved on the data of sites: {len(collection.results)} results "
            f"of {of}, as its copy of {collection.as_of} has them."
        )
        root["description"] = f"{told} {benchmark.get('description') or ''}".strip()
        root["datePublished"] = at
        root["license"] = self._license(license_url)
        root["conformsTo"] = self._add(
            PROFILE, "CreativeWork", name="Process Run Crate", version="0.5"
        )
        root["about"] = self._entity(BENCHMARK.name, benchmark, "CreativeWork")
        registry = self._organization(collection.registry, "The registry", collection.registry)
        root["author"] = root["publisher"] = registry
        table = "".join(as_csv(collection)).encode("utf-8", "backslashreplace")
        self._file("results.csv", table, CSV, "All figures, a row each")
        for path, entity in _entity_files(collection):
            self._file(path, _json(entity), JSON, "As the registry has it")
        for uid, key in collection.entities[KEY.name].items():
            # Not by its fingerprint: what a registry says is no path.
            pem = key["public_key"].encode("ascii", "backslashreplace")
            self._file(f"keys/signing-key-{uid}.pub.pem", pem, PEM, "A public key (Ed25519)")
        root["mentions"] = _single([self._run(result) for result in collection.results])

    def _run(self, result: Entity) -> Any:
        """The run that gave a result, as an action."""
        collection, uid = self._collection, result["id"]
        said, known = said_of(result), flags(result)
        notes = [] if known["is_valid"] else ["It was withdrawn."]
        notes += ["The model failed on some of the data."] if known["is_partial"] else []
        given = [self._file(f"results/{RESULT.word}-{uid}.json", document(result), JSON, "Results")]
        if STATEMENT in said:
            path = f"statements/{RESULT.word}-{uid}.json"
            envelope = _json(said[STATEMENT])
            given.append(self._file(path, envelope, ENVELOPE, "What its site signed of it"))
        else:
            notes.append("It is unsigned.")
        model, evaluator = result["model"], collection.benchmark["data_evaluator_mlcube"]
        # No `Dataset`, which would be a part of the crate: the data stay where they are.
        dataset = self._named(DATASET.name, result["dataset"], "CreativeWork")
        site = f"The site of dataset {result['dataset']}"
        return self._add(
            f"#run-{uid}",
            "CreateAction",
            name=f"Result {uid}",
            description=" ".join(
                [f"Container {model} was run on dataset {result['dataset']}.", *notes]
            ),
            instrument=[
                self._named(CONTAINER.name, one, "SoftwareApplication")
                for one in dict.fromkeys((model, evaluator))
            ],
            object=dataset,
            result=given,
            agent=self._organization(f"#site-{result['dataset']}", site, dataset.id),
            endTime=_seconds(result.get("created_at")),
            actionStatus=DONE,
        )

    def _named(self, kind: str, uid: int, type_: str) -> Any:
        """What a result refers to, as far as it is known."""
        return self._entity(kind, self._collection.of(kind, uid) or {"id": uid}, type_)

    def _entity(self, kind: str, entity: Entity, type_: str) -> Any:
        what = kind_of(kind)
        url = f"{self._collection.registry}/api/v0{what.path}{entity['id']}/"
        pins = [entity[name] for name in (*PINS, "generated_uid") if entity.get(name)]
        more: dict[str, Any] = {"identifier": pins} if pins else {}
        if type_ == "SoftwareApplication":
            more["softwareVersion"] = pins[0] if pins else "unknown"
        name = entity.get("name") or f"{what.word} {entity['id']}"
        about = {"description": entity["description"]} if entity.get("description") else {}
        return self._add(url, type_, name=name, url=url, **about, **more)

    def _license(self, url: str) -> Any:
        if not url:
            return self._add("#license", "CreativeWork", name="No license", description=NO_LICENSE)
        return self._add(url, "CreativeWork", name=url, url=url)

    def _organization(self, uid: str, name: str, url: str) -> Any:
        return self._add(uid, "Organization", name=name, url=url)

    def _add(self, uid: str, type_: str, **properties: Any) -> Any:
        """An entity of the crate that is no file; the one that is there already."""
        from rocrate.model.contextentity import ContextEntity

        if uid in self._made:
            return self._made[uid]
        made = self._crate.add(ContextEntity(self._crate, uid, properties={"@type": type_}))
        self._made[uid] = made
        for name, value in properties.items():
            if value is not None:
                made[name] = _single(value)
        return made

    def _file(self, path: str, content: bytes, form: str, name: str) -> Any:
        described = {
            "name": f"{name}: {path}",
            "encodingFormat": form,
            "sha256": sha256(content).hexdigest(),
        }
        return self._crate.add_file(BytesIO(content), path, properties=described, record_size=True)


def _single(value: Any) -> Any:
    """A value as RO-Crate asks for it: what is one is no list."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _seconds(moment: Any) -> str | None:
    """A time to the second, as the profile has it; None for what is none."""
    try:
        return datetime.fromisoformat(str(moment).replace("Z", "+00:00")).isoformat(
            timespec="seconds"
        )
    except ValueError:
        return None


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1) + "\n").encode("ascii")
