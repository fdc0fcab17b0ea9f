"""Carry catalog, assets, results and the queue between machines that no network joins."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from medperf_cache import Storage, UnsafeArchive
from medperf_cache.bundle import Bundle, Head, Progress, document, read_head, verified, write
from medperf_cache.errors import NotWritable
from medperf_cache.names import DERIVED, IMAGE, IMAGE_ID
from medperf_cache.outbox import LOST, QUEUED, SENDING, WAITS, Entry, Outbox
from medperf_client.airgap.carried import (
    CATALOG,
    MEMO,
    NAMES,
    OUTBOX,
    About,
    asked_before,
    entities,
    entries,
    everything,
    fates,
    merge,
    settle,
    takeable,
    to_carry,
)
from medperf_client.airgap.signing import check_signature, signer
from medperf_client.errors import HeldBack, MedPerfError, UsageError
from medperf_client.exchange.sender import Sending
from medperf_client.exchange.sync import learn
from medperf_client.execution.provisions import Provisions, pin_name
from medperf_client.kinds import Entity, described, kind_of
from medperf_client.site import Site

RECEIPT_HINT = "Say where the receipt goes: medperf sync --bundle FILE --receipt FILE."


@dataclass(frozen=True)
class Imported:
    """What a bundle brought: the bundle, how many entities of the catalog changed, what is missing.

    `settled` are queue entries whose fate it told, `unsent` how many that wait to be sent from
    this machine by `send_bundle`, `missing` digests that it left out and that are not here.
    `results` of steps came; `unsigned` says that those in it did not, for nobody vouched for them.
    `kept` are entities that stay as they were, for it gave them other content.
    """

    head: Head
    changed: int
    settled: list[Entry]
    unsent: int
    missing: list[str]
    results: int
    unsigned: bool
    kept: list[str]


def export_bundle(
    site: Site,
    file: Path,
    benchmark: int | None = None,
    queue: bool = False,
    since: Path | None = None,
    sign_with: Path | None = None,
) -> Head:
    """Write a bundle of everything here, of what one benchmark needs, or of the queue.

    The `queue` goes alone, unless a benchmark is named too: results on a site's own data do not
    leave it with the queue. What nobody could verify, results of steps for one, goes only under a
    signature. Leaves out what the bundle `since` had or left out. Opens no connection. Raises
    `UsageError` if there is nothing such to export, `CorruptContent` if something in the cache is
    damaged.
    """
    sign = signer(sign_with) if sign_with else None
    other_side = read_head(since).manifest.content if since else set()
    storage = site.storage
    with storage.in_use(), storage.scratch() as folder:
        about, documents, content = _about(site), {}, set[str]()
        if benchmark is not None or not queue:
            with site.catalog.transaction():
                about = _about(site, benchmark=benchmark)
                chosen = everything(site.catalog) if benchmark is None else _needed(site, benchmark)
                documents[CATALOG] = document(folder / CATALOG, chosen)
            results = benchmark is None and sign is not None
            content = set(storage.blobs) if benchmark is None else _content(site, chosen)
            if results:
                content |= _outputs(storage)
                documents[MEMO] = document(folder / MEMO, _memo(storage, content))
            names = dict(_names(storage, content, sign is not None))
            # A result is found by the image that a digest means, carried or not.
            names |= storage.names.items(IMAGE_ID) if results else {}
            documents[NAMES] = document(folder / NAMES, names.items())
        with ExitStack() as stack:
            if queue:
                away = stack.enter_context(_carried_away(site, file))
                documents[OUTBOX] = document(folder / OUTBOX, takeable(away))
                # What the other side is to upload. It may have been deleted here by hand.
                uploads = {digest for entry in away for digest in entry.uploads}
                content |= {digest for digest in uploads if digest in storage.blobs}
            progress = _progress(site, f"writing {file}")
            queued = [documents[OUTBOX]] if queue else []
            watch = stack.enter_context(site.ledger.exporting("bundle", file, queued))
            return write(
                file, storage, asdict(about), documents, content, other_side, sign, progress, watch
            )


def import_bundle(site: Site, file: Path, public_key: Path | None = None) -> Imported:
    """Take what a bundle holds, once every byte of it is verified; again does no harm.

    A queue in it is not taken: see `send_bundle`. A receipt settles the queue here. Raises
    `UsageError` if the bundle is of another registry, `UnsafeArchive` if it is damaged,
    `MedPerfError` if it was not signed with that key; nothing has changed then.
    """
    with _verified(site, file, public_key) as (bundle, about, signed_by):
        carried = entries(bundle)
        # Files first, what refers to them last: an interrupted import leaves nothing dangling.
        bundle.add_content()
        results = bundle.add_results(signed_by) if signed_by else 0
        unsigned = not signed_by and any(True for _ in bundle.memo())
        missing = bundle.missing()
        if about.benchmark is not None:
            _pin(site, about.benchmark, bundle)
        changed, kept = 0, list[str]()
        if CATALOG in bundle.head.manifest.documents:
            changed, kept = merge(site.catalog, about, entities(bundle), trusted=bool(signed_by))
        settled, unsent = list[Entry](), len(carried)
        if about.receipt_for is not None:
            settled, unsent = settle(site.queue.outbox, site.catalog, carried), 0
        return Imported(bundle.head, changed, settled, unsent, missing, results, unsigned, kept)


def send_bundle(
    site: Site,
    file: Path,
    receipt: Path | None = None,
    public_key: Path | None = None,
    sign_with: Path | None = None,
) -> Sending:
    """Send the queue in a bundle from this machine, and write a receipt to carry back.

    The receipt is written beside the bundle, `.receipt` added to its name, unless told where; once
    before anything is sent, so that none is sent that nobody can tell of. Again goes on where it
    was interrupted, and writes the receipt anew. What is sent is sent once,
    wherever from, as long as it is the same member who sends: an idempotency key belongs to a
    member. Raises `UsageError` for another member's queue, and if the bundle carries none.
    """
    sign = signer(sign_with) if sign_with else None
    receipt = receipt or receipt_beside(file)
    if receipt.resolve() == file.resolve():
        raise UsageError(f"{receipt} is the bundle that is to be sent", RECEIPT_HINT)
    with _verified(site, file, public_key) as (bundle, about, _):
        carried = entries(bundle)
        if not carried or about.receipt_for is not None:
            raise UsageError(
                f"{file} carries no queue", "Export one with: medperf bundle export FILE --queue"
            )
        me = site.me["id"]
        strangers = {entry.member for entry in carried if isinstance(entry.member, int)} - {me}
        if strangers or (about.member is not None and about.member["id"] != me):
            raise UsageError(
                f"{file} carries the queue of another member than {site.me['email']}",
                "Its owner has to send it: log in as them with: medperf auth login",
            )
        outbox = Outbox(site.folder / "carried" / bundle.head.id)
        outbox.restore(replace(entry, member=me) for entry in carried)
        for entry in outbox.entries():
            if entry.state == LOST:
                # Its owner cannot be asked here, and wanted it sent.
                outbox.change(entry.uid, state=QUEUED, answer=None)
        bundle.add_content()

        def write_receipt() -> None:
            with site.storage.scratch() as folder:
                documents = {OUTBOX: document(folder / OUTBOX, map(vars, fates(outbox)))}
                about = _about(site, receipt_for=bundle.head.id)
                with site.ledger.exporting("receipt", receipt, [documents[OUTBOX]]) as watch:
                    write(receipt, site.storage, asdict(about), documents, sign=sign, watch=watch)

        try:
            write_receipt()
        except NotWritable as error:
            raise MedPerfError(f"nothing was sent: {error}", RECEIPT_HINT) from error
        sending = site.sender_of(outbox, may_wait=False).send(
            look=lambda: site.tell_lost(learn(outbox, site.registry, site.catalog))
        )
        try:
            write_receipt()
        except NotWritable as error:
            told = f"{len(sending.sent)} sent, but no receipt tells of it: {error}"
            raise MedPerfError(told, f"{RECEIPT_HINT} Nothing is sent twice.") from error
        return sending


def receipt_beside(bundle: Path) -> Path:
    """Where the receipt for a bundle is written unless told where."""
    return bundle.with_name(f"{bundle.name}.receipt")


def _about(site: Site, benchmark: int | None = None, receipt_for: str | None = None) -> About:
    about = About(
        registry=site.profile.server_url,
        created_at=_now(),
        member=site.catalog.me,
        cursor=site.catalog.cursor,
        fetched_at=site.catalog.fetched_at,
        benchmark=benchmark,
        receipt_for=receipt_for,
    )
    try:
        about.check()
    except UnsafeArchive as error:
        raise MedPerfError(
            f"nobody would take a bundle from here: {error}", "Is the clock of this machine right?"
        ) from error
    return about


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _needed(site: Site, uid: int) -> list[tuple[str, Entity]]:
    provisions = Provisions(site.storage, site.catalog, site.fetcher, site.platforms.runner_for)
    return provisions.entities(uid)


def _outputs(storage: Storage) -> set[str]:
    """What steps gave that ran here, as far as it still is here."""
    return {
        digest
        for _, record in storage.memo.items()
        for _, digest in record["outputs"].values()
        if digest in storage.trees or digest in storage.blobs
    }


def _content(site: Site, chosen: Iterable[tuple[str, Entity]]) -> set[str]:
    """The files and images that entities name by their hashes; tells which are not here."""
    content: set[str] = set()
    for kind, entity in chosen:
        for field in kind_of(kind).content:
            value = entity.get(field)
            if not value:
                continue
            found = _kept(site.storage, str(value))
            content |= found
            if not found:
                site.tell(f"not in the cache, so not carried: {field} of {described(kind, entity)}")
    return content


def _kept(storage: Storage, digest: str) -> set[str]:
    """What is here of a file, or an image, by its digest."""
    if digest in storage.images:
        return set(storage.images.parts(digest))
    # What an archive unpacks to says nothing to who does not have the archive.
    return {digest} if digest in storage.blobs else set()


def _names(storage: Storage, content: set[str], signed: bool) -> Iterator[tuple[str, str]]:
    """Copies of images, which the other side verifies; if it is `signed`, one's own word, too."""
    for name, digest in storage.names.items():
        # A name of a file or folder, or of an image all of whose parts are carried.
        parts = {digest} if digest not in storage.images else storage.images.parts(digest)
        wanted = name.startswith(IMAGE) or (signed and not name.startswith(DERIVED))
        if wanted and content.issuperset(parts):
            yield name, digest


def _memo(storage: Storage, content: set[str]) -> Iterator[tuple[str, Entity]]:
    """What ran here: nobody vouches for what others signed."""
    for key, record in storage.memo.items():
        outputs = (digest for _, digest in record["outputs"].values())
        if "signed_by" not in record and content.issuperset(outputs):
            yield key, record


@contextmanager
def _carried_away(site: Site, file: Path) -> Iterator[list[Entry]]:
    """The entries to carry, marked as sent from elsewhere, perhaps, unless the block raises.

    So marked they cannot be edited or dropped until it is known what became of them.
    """
    outbox = site.queue.outbox
    with outbox.alone():
        with outbox.transaction():
            known = to_carry(outbox)
            waiting = [entry for entry in known if entry.state in WAITS]
            if not waiting:
                raise UsageError("nothing waits that could be sent", "See: medperf queue ls")
            for entry in waiting:
                if entry.state != SENDING and (why := site.unagreed(entry)):
                    raise HeldBack(f"{entry.uid} may not leave yet: {why}", "See: medperf queue ls")
            reason = f"carried in {file.name} since {_now()}; import its receipt, or sync"
            before = asked_before(outbox, site.catalog)
            for entry in waiting:
                mark = {"state": SENDING, "reason": reason, "before": before.get(entry.uid)}
                outbox.change(entry.uid, **mark)
        try:
            yield to_carry(outbox)
        except BaseException:
            with outbox.transaction():
                for entry in waiting:
                    was = {"state": entry.state, "reason": entry.reason, "before": entry.before}
                    outbox.update(entry, **was)
            raise


@contextmanager
def _verified(
    site: Site, file: Path, public_key: Path | None
) -> Iterator[tuple[Bundle, About, str]]:
    """A bundle of this site's registry, all of it verified; what it says of itself; whose it is.

    That is the SHA-256 of the public key, empty where no signature was asked for.
    """
    signed_by = ""

    def accept(head: Head) -> None:
        nonlocal signed_by
        if public_key is not None:
            signed_by = check_signature(head.data, head.signature, public_key)
        unknown = head.manifest.documents.keys() - {CATALOG, NAMES, MEMO, OUTBOX}
        if unknown:
            raise UsageError(f"{file} holds {', '.join(unknown)}", "Update medperf to import it.")
        registry, here = About.of(head.manifest).registry, site.profile.server_url
        if registry != here:
            raise UsageError(
                f"{file} is of the registry {registry}, and this profile is of {here}",
                "See: medperf profile activate --help",
            )

    with verified(file, site.storage, accept, _progress(site, f"reading {file}")) as bundle:
        for _ in entities(bundle):
            pass
        yield bundle, About.of(bundle.head.manifest), signed_by


def _progress(site: Site, what: str) -> Progress:
    def show(done: int, total: int) -> None:
        # The end is told by the command.
        if done < total:
            site.progress(what, done, total)

    return show


def _pin(site: Site, benchmark: int, bundle: Bundle) -> None:
    """Keep what a benchmark's bundle brought from `storage gc`, as `benchmark fetch` does."""
    pins, name = site.storage.pins, pin_name(benchmark, site.profile.server_url)
    content = bundle.head.manifest.content
    blobs = [("blob", digest) for digest in content if digest in site.storage.blobs]
    trees = [("tree", digest) for digest in content if digest in site.storage.trees]
    pins.put(name, [*pins.get(name), *blobs, *trees])
