"""What a benchmark needs to run with no network: bring it along, or tell what is missing."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from medperf_cache import CacheError, Catalog, Storage
from medperf_cache.pins import Content
from medperf_client.containers.library import Library, pinned, require_valid
from medperf_client.containers.runner import Runner
from medperf_client.containers.spec import DOCKER_IMAGE, PROCESS, ContainerSpec, load
from medperf_client.errors import MedPerfError, Offline, Refused, UsageError
from medperf_client.exchange.queue import Queue
from medperf_client.execution.compatibility import ROLES
from medperf_client.execution.parallel import at_once
from medperf_client.kinds import DATASET, DATASET_ASSOCIATION, MODELS, RESULT, Entity
from medperf_client.kinds.submission import APPROVED, REJECTED
from medperf_client.registry.client import Registry
from medperf_client.transfer.fetcher import Fetcher

# What may keep one thing from being had, and says nothing of the others.
TROUBLE = (MedPerfError, CacheError, OSError)


def pin_name(benchmark: int | str, server_url: str) -> str:
    """The name of the pin that keeps what `benchmark fetch` brought, for a benchmark's UID."""
    return f"benchmark {benchmark} of {server_url}"


@dataclass(frozen=True)
class Part:
    """One thing that a container or the benchmark itself (`owner`) needs, and how it stands.

    Every test on the benchmark needs what is `required`; the rest belongs to its models.
    `contents` is what of it is in the cache, `size_bytes` long; `missing` says why it cannot be
    used now, and is empty if it can.
    """

    owner: str
    name: str
    required: bool
    contents: tuple[Content, ...]
    size_bytes: int
    missing: str

    def record(self) -> Entity:
        """The same as JSON."""
        return {
            "of": self.owner,
            "part": self.name,
            "required": self.required,
            "ready": not self.missing,
            "bytes": self.size_bytes,
            "missing": self.missing or None,
        }


@dataclass(frozen=True)
class Need:
    """Something to have. `bring` gets it; `find` gives what is here, or raises saying why not.

    `check` raises if this machine cannot use it although it is here.
    """

    owner: str
    name: str
    bring: Callable[[], object]
    find: Callable[[], list[Content]]
    check: Callable[[], object] = lambda: None


class Provisions:
    """Knows, and gets, what a benchmark's containers and demo data need with no network.

    The catalog says what that is, or the `queue` for what has a provisional UID. The cache is held
    meanwhile, so that no `storage gc` takes away what was there already.
    """

    def __init__(
        self,
        storage: Storage,
        catalog: Catalog,
        fetcher: Fetcher,
        runner_for: Callable[[ContainerSpec], Runner],
        queue: Queue | None = None,
    ) -> None:
        self._storage, self._catalog, self._fetcher = storage, catalog, fetcher
        self._library, self._runner_for = Library(storage, fetcher), runner_for
        self._queue = queue

    def benchmark(self, uid: int | str) -> Entity:
        """A benchmark that is known here. Raises `UsageError` if there is none of that UID."""
        found = self._known("benchmark", uid)
        if found is None:
            raise UsageError(
                f"there is no benchmark with UID {uid} in the copy of the registry",
                hint="See: medperf benchmark ls",
            )
        return found

    def look(self, benchmark: Entity, models: Iterable[int]) -> list[Part]:
        """How things stand; opens no connection but to the local engine."""
        with self._storage.in_use():
            return [self._part(need, required) for need, required in self._all(benchmark, models)]

    def bring(
        self, benchmark: Entity, models: Iterable[int], pin: str, others: Iterable[int] = ()
    ) -> list[Part]:
        """Get what is missing, several at a time; tell how things stand then, and pin them.

        What cannot be had does not keep the rest from coming. Of `others` among the models what is
        here is pinned too, and nothing is fetched.
        """
        with self._storage.in_use():
            needs = self._all(benchmark, models)
            outcomes = at_once([need.bring for need, _ in needs])
            troubles = [one if isinstance(one, Exception) else None for one in outcomes]
            for trouble in troubles:
                if trouble is not None and not isinstance(trouble, TROUBLE):
                    raise trouble
            parts = [
                self._part(need, required, trouble)
                for (need, required), trouble in zip(needs, troubles, strict=True)
            ]
            kept = [self._part(need, False) for need, _ in self._all(benchmark, others)]
            contents = (one for part in [*parts, *kept] for one in part.contents)
            self._storage.pins.put(pin, contents)
            return parts

    def size_bytes(self, parts: Iterable[Part]) -> int:
        """How much parts take in the cache together: images share layers."""
        return self._size(one for part in parts for one in part.contents)

    def learn_models(self, benchmark: Entity, registry: Registry) -> str:
        """Ask the registry which models a benchmark has, and put that in the catalog.

        Returns what to say if only the member's own are known, else nothing. Those who own the
        benchmark, administrate the registry or evaluate models on their data are told of all.
        """
        uid = benchmark["id"]
        if isinstance(uid, str):
            return ""
        try:
            told = list(registry.pages(f"/benchmarks/{uid}/models/"))
            found = MODELS.checked({"id": uid, "models": told})
        except (Offline, Refused) as error:
            if self._catalog.get(MODELS.name, uid):
                return ""
            if isinstance(error, Refused):
                # As it should be for most members, and no trouble.
                return "Its list of models is not for all members: of them, only your own came."
            return f"Its list of models cannot be had now, only your own came: {error}"
        self._catalog.put(MODELS.name, found)
        return ""

    def models(self, benchmark: Entity, waiting: bool = False) -> list[int]:
        """The UIDs of the approved models that the catalog knows a benchmark to have.

        The registry tells them by priority, the highest first; others follow. With `waiting` also
        those that nobody decided about yet. What is queued has none.
        """
        uid = benchmark["id"]
        if isinstance(uid, str):
            return []
        told = (self._catalog.get(MODELS.name, uid) or {"models": []})["models"]
        seen = self._associations(uid)
        # The newest of a pair counts; what the catalog follows knows its state better.
        known = sorted([*told, *seen], key=lambda one: str(one.get("created_at")))
        status = {one["model_mlcube"]: one["approval_status"] for one in known}
        ranked = dict.fromkeys([*(one["model_mlcube"] for one in told), *sorted(status)])
        return [
            model
            for model in ranked
            if status[model] == APPROVED or (waiting and status[model] != REJECTED)
        ]

    def entities(self, uid: int) -> list[tuple[str, Entity]]:
        """A benchmark, its containers, the models that are not rejected, and what joins them.

        With them the datasets that take part, or could, and what became of the member's own: others
        than their owners, and the committee, may see no more. Each with the name of its kind.
        Raises `UsageError` if there is no such benchmark.
        """
        catalog, benchmark = self._catalog, self.benchmark(uid)
        containers = sorted(
            {benchmark[role] for role in ROLES.values()}.union(self.models(benchmark, waiting=True))
        )
        found = [("mlcube", catalog.get("mlcube", container)) for container in containers]
        found.append((MODELS.name, catalog.get(MODELS.name, uid)))
        known = [(kind, entity) for kind, entity in found if entity is not None]
        joined = [("association", one) for one in self._associations(uid)]
        return [("benchmark", benchmark), *known, *joined, *self._datasets(benchmark)]

    def _datasets(self, benchmark: Entity) -> Iterator[tuple[str, Entity]]:
        me = (self._catalog.me or {}).get("id")
        asked = [
            one
            for one in self._catalog.all(DATASET_ASSOCIATION.name)
            if one["benchmark"] == benchmark["id"]
        ]
        named = {one[DATASET.name] for one in asked}
        mine = set()
        for one in self._catalog.all(DATASET.name):
            is_prepared_so = one["data_preparation_mlcube"] == benchmark["data_preparation_mlcube"]
            if me is not None and one.get("owner") == me and (is_prepared_so or one["id"] in named):
                mine.add(one["id"])
                yield DATASET.name, one
            elif one["id"] in named:
                yield DATASET.name, DATASET.seen_by_all(one) or {}
        results = [
            one for one in self._catalog.all(RESULT.name) if one["benchmark"] == benchmark["id"]
        ]
        for kind, found in ((DATASET_ASSOCIATION, asked), (RESULT, results)):
            yield from ((kind.name, one) for one in found if one[DATASET.name] in mine)

    def _associations(self, benchmark: int) -> list[Entity]:
        known = self._catalog.all("association")
        return [one for one in known if one["benchmark"] == benchmark]

    def _all(self, benchmark: Entity, models: Iterable[int]) -> list[tuple[Need, bool]]:
        """Everything to have, and whether every test needs it."""
        owner = f"benchmark {benchmark['id']} ({benchmark['name']})"
        url, digest = (benchmark[f"demo_dataset_tarball_{what}"] for what in ("url", "hash"))
        needs = [(self._folder(owner, "demo data", url, digest), True)]
        own = dict.fromkeys(benchmark[field] for field in ROLES.values())
        for uid in [*own, *(model for model in models if model not in own)]:
            needs += [(need, uid in own) for need in self._of_container(uid)]
        return needs

    def _part(self, need: Need, required: bool, trouble: Exception | None = None) -> Part:
        contents: list[Content] = []
        try:
            contents = need.find()
            need.check()
        except TROUBLE as error:
            trouble = trouble or error
        missing = "" if trouble is None else str(trouble)
        size = self._size(contents)
        return Part(need.owner, need.name, required, tuple(contents), size, missing)

    def _size(self, contents: Iterable[Content]) -> int:
        return sum(self._storage.size(*content) for content in set(contents))

    def _known(self, kind: str, uid: int | str) -> Entity | None:
        if isinstance(uid, int):
            return self._catalog.get(kind, uid)
        return self._queue.entity(kind, uid) if self._queue else None

    def _of_container(self, uid: int | str) -> Iterator[Need]:
        entity = self._known("mlcube", uid)
        if entity is None:
            yield _unknown(uid)
            return
        owner = f"container {uid} ({entity['name']})"
        yield self._file(owner, "configuration", entity["git_mlcube_url"], entity["mlcube_hash"])
        if url := entity["git_parameters_url"]:
            yield self._file(owner, "parameters", url, entity["parameters_hash"])
        if url := entity["additional_files_tarball_url"]:
            digest = entity["additional_files_tarball_hash"]
            yield self._folder(owner, "additional files", url, digest)
        yield Need(
            owner,
            "image",
            lambda: self._bring_image(entity),
            lambda: self._find_image(entity),
            lambda: self._check_platform(entity),
        )

    def _file(self, owner: str, name: str, url: str, digest: str) -> Need:
        return Need(
            owner,
            name,
            lambda: self._fetcher.fetch(url, digest),
            lambda: self._find_file(url, digest),
        )

    def _folder(self, owner: str, name: str, url: str, digest: str) -> Need:
        return Need(
            owner,
            name,
            lambda: self._library.unpacked(url, digest),
            lambda: self._find_folder(url, digest),
        )

    def _find_file(self, url: str, digest: str) -> list[Content]:
        if not digest:
            raise Offline(f"the hash of {url} is not known yet: it is found out at sync")
        if digest not in self._storage.blobs:
            raise Offline(f"{url} is not in the cache")
        return [("blob", digest)]

    def _find_folder(self, url: str, digest: str) -> list[Content]:
        tree = self._storage.trees.unpacked(digest)
        if tree is None:
            # What is still packed is unpacked when it is first used.
            return self._find_file(url, digest)
        # The archive, too: what it unpacks to is carried in no other form.
        packed = [("blob", digest)] if digest in self._storage.blobs else []
        return [("tree", tree), *packed]

    def _bring_image(self, entity: Entity) -> None:
        spec = self._library.spec(entity)
        runner = self._runner_for(spec)
        runner.check(spec)
        archive, image = self._library.archive(spec, entity), pinned(entity)
        if spec.kind == DOCKER_IMAGE and image not in self._storage.images:
            runner.keep(spec, runner.provide(spec, archive, image))

    def _find_image(self, entity: Entity) -> list[Content]:
        image, spec = pinned(entity), self._spec(entity)
        url = entity["image_tarball_url"] or spec.image
        runner = self._runner_for(spec)
        runner.check(spec)
        if spec.kind == PROCESS:
            return self._find_folder(url, image)
        if spec.kind != DOCKER_IMAGE:
            return self._find_file(url, image)
        if image in self._storage.images:
            return [("blob", digest) for digest in self._storage.images.parts(image)]
        runner.ready(spec)
        if runner.image_id(spec, expected=image) is None:
            raise Offline(f"neither the engine nor the cache has image {spec.image}")
        return []

    def _check_platform(self, entity: Entity) -> None:
        spec = self._spec(entity)
        self._runner_for(spec).ready(spec)

    def _spec(self, entity: Entity) -> ContainerSpec:
        """What the configuration says, if it is here. Raises as `Library.spec` does."""
        require_valid(entity)
        config = entity["mlcube_hash"]
        if config not in self._storage.blobs:
            raise Offline("its configuration, which names it, is not in the cache")
        return load(self._storage.blobs.path(config), entity["git_mlcube_url"])


def _unknown(uid: int | str) -> Need:
    def find() -> list[Content]:
        raise Offline(f"the copy of the registry has no container {uid}")

    return Need(f"container {uid}", "registration", find, find)
