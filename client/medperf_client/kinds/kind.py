"""What there is to say of a kind of entity. Queue, sync, bundles and commands ask it."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from medperf_client.kinds.form import MOST_NUMBER, Entity, Form, formed


class View(Protocol):
    """A registry as one member sees it, to tell what is news to them."""

    def owns(self, kind: str, uid: int) -> bool:
        """Whether an entity is the member's."""

    def is_me(self, uid: object) -> bool:
        """Whether that is the member's UID."""

    def all(self, kind: str) -> list[Entity]:
        """The entities of a kind."""


class Past(Protocol):
    """A registry that has another past than was read here, to queue anew what it lost."""

    def lost(self, kind: str, uid: int) -> Entity | None:
        """What had this UID before, and is not there any more."""

    def now(self, kind: str, uid: int) -> Entity | None:
        """What has it now."""

    def all(self, kind: str) -> list[Entity]:
        """What of a kind there is now."""

    def successor(self, kind: str, uid: int) -> int:
        """The UID that the same thing has now. Raises `MedPerfError` if it is not there."""


# Lines for a member about an entity as it was and as it is; None before it was, or once it is gone.
News = Callable[[View, Entity | None, Entity | None], Iterator[str]]
# The body of a write to say again what the registry lost: its path, its body, the answer it had.
Again = Callable[[str, Entity, Entity, Past], Entity]
# UIDs and paths of the lists that a member asks for at each sync, for no change tells of them.
Asked = Callable[[View], Iterable[tuple[int, str]]]


def _nothing(view: View, before: Entity | None, after: Entity | None) -> Iterator[str]:
    return iter(())


def _nowhere(view: View) -> Iterable[tuple[int, str]]:
    return ()


def _as_it_is(path: str, body: Entity, answer: Entity, past: Past) -> Entity:
    return body


def _never(body: Entity) -> bool:
    return False


@dataclass(frozen=True)
class Kind:
    """One kind of entity.

    `name` is that of the wire and of the change log, `word` what people say. `form` are the fields
    that are read, `lists` the forms of what its lists hold.

    New ones are sent to `path`, in which `{field}` stands for a UID. A plain MedPerf server lists
    at `listed` what a member may see, at `mine` what is theirs, and at `pair` those with the same
    sides. `step` is what stands before its UID in a path.

    `refers` says of what kind a field holds the UID. A pair joins its two `sides`, fields that it
    refers by: of those with the same sides the newest counts, and they keep their order. `unique`
    fields tell it from all others of its kind; `pins` are fixed with its content, as each
    `..._hash` is. `content` are those with the digest of a file or an image, which bundles carry.

    Of one that is `asked` for, the single one of its `lists` is read anew at each sync.

    Of one that `may_repeat` registries take the same twice: a plain one is asked before.

    The change log tells of it if it `is_logged`, bundles carry it if it `is_carried`, and all see
    the same of it if it `is_public`; or all but the fields that are `hidden` from others than its
    owner. `only_keyed` says of which the registry must know keys.
    """

    name: str
    word: str
    form: Form
    lists: Mapping[str, Form] = field(default_factory=dict)
    path: str = ""
    listed: str = ""
    mine: str = ""
    pair: str = ""
    step: str = ""
    refers: Mapping[str, str] = field(default_factory=dict)
    sides: tuple[str, ...] = ()
    unique: tuple[str, ...] = ()
    pins: tuple[str, ...] = ()
    content: tuple[str, ...] = ()
    is_logged: bool = True
    is_carried: bool = True
    is_public: bool = False
    hidden: tuple[str, ...] = ()
    may_repeat: bool = False
    only_keyed: Callable[[Entity], bool] = _never
    news: News = _nothing
    asked: Asked = _nowhere
    again: Again = _as_it_is

    @property
    def group(self) -> str:
        """The group of commands that lists them: `key` for a signing key."""
        return self.word.rpartition(" ")[2]

    def seen_by_all(self, entity: Entity) -> Entity | None:
        """What everybody may see of an entity; None if that is nothing."""
        if not (self.is_public or self.hidden):
            return None
        return {name: value for name, value in entity.items() if name not in self.hidden}

    def checked(self, value: object) -> Entity:
        """`value`, which has the kind's form. Raises `Offline`: no registry answers like that."""
        # Pairs that come without an ID get one here, below zero.
        entity = formed(self.word, self.form, value, {"id": -MOST_NUMBER} if self.sides else None)
        for name, form in self.lists.items():
            for part in entity[name]:
                formed(self.word, form, part)
        return entity
