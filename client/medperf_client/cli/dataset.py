"""`medperf dataset`: register data, prepare them, and ask that they take part in a benchmark."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medperf_client.cli.base import (
    Group,
    Uid,
    agrees,
    cache_option,
    confirm,
    dataset_option,
    display,
    example,
    if_given,
    json_option,
    limit_option,
    mine_option,
    online_option,
    show_before,
    shown,
    site,
    tell_delivered,
    yes_option,
)
from medperf_client.cli.consenting import agreed_to, may_be_told, persons, sent
from medperf_client.cli.disclosing import DECISIONS, cleared, review_options
from medperf_client.cli.own import own_dataset, preparation, progress_words, statuses_in_benchmarks
from medperf_client.cli.text import human_size, plain, print_json, print_table, state_of
from medperf_client.cli.views import show, view_options
from medperf_client.errors import MedPerfError, UsageError

if TYPE_CHECKING:
    from medperf_client.datasets.carrying import Carrier
    from medperf_client.datasets.records import Record

ADDRESS = (
    "The owner of the data preparation container will see your e-mail address, and how far the "
    "preparation is."
)
folder = click.Path(exists=True, file_okay=False, path_type=Path)


@click.group(cls=Group)
def group() -> None:
    """Register data, prepare them, and ask that they take part in a benchmark."""


@group.command()
@mine_option
@click.option("--unregistered", is_flag=True, help="Only those here that no registry has yet.")
@click.option(
    *("-m", "--data-preparation-container", "preparator"),
    type=Uid(),
    help="Only those prepared with this container; its owner sees how far they are.",
)
@limit_option
@json_option
@example("medperf dataset ls --mine", "medperf dataset ls -m 1 --json")
def ls(
    mine: bool, unregistered: bool, preparator: int | str | None, limit: int | None, as_json: bool
) -> None:
    """List datasets. Of others' you see what they are called and how they were prepared."""
    here = site()
    found = shown("dataset", as_json, limit, mine)
    if unregistered:
        found = [one for one in found if isinstance(one["id"], str)]
    if preparator is not None:
        found = [one for one in found if one["data_preparation_mlcube"] == preparator]
        found = _told_to_owner(preparator, found)
    found = here.queue.changed("dataset", found)
    if as_json:
        print_json(found)
        return
    print_table(
        ("UID", "NAME", "PREPARATOR", "STATE", "STATUS", "OWNER"),
        [
            (
                one["id"],
                one["name"],
                one["data_preparation_mlcube"],
                state_of(one),
                progress_words(one.get("report")),
                one.get("owner"),
            )
            for one in found
        ],
    )


def _told_to_owner(preparator: int | str, known: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Datasets of a preparation container as its owner is told of them, if the member is that."""
    here = site()
    if here.offline or not here.is_mine(here.entity("mlcube", preparator)):
        return known
    try:
        told = list(here.registry.pages(f"/mlcubes/{preparator}/datasets/"))
    except MedPerfError:
        # Once the container is in OPERATION the registry tells no more than others see.
        return known
    return [{**one, **next((t for t in told if t["id"] == one["id"]), {})} for one in known]


@group.command()
@click.argument("uid", type=Uid(), required=False)
@view_options
@example("medperf dataset view 3", "medperf dataset view q7 --format json --output dataset.json")
def view(uid: int | str | None, **options: Any) -> None:
    """Show a dataset: what the registry knows of it and, if it is here, where its data are."""
    here = site()
    here.freshen()
    found = here.listed("dataset") if uid is None else [here.entity("dataset", uid)]
    show(_whole(found), uid is not None, **options)


def _whole(entities: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Datasets with what is known here of them."""
    here = site()
    records = {
        uid: record
        for record in map(here.datasets.bound, here.datasets.all())
        for uid in (record.uid, record.entry)
    }
    return [
        {**one, **({"here": _here(records[one["id"]])} if one["id"] in records else {})}
        for one in here.queue.changed("dataset", entities)
    ]


def _here(record: "Record") -> dict[str, Any]:
    """Where a dataset is on this machine, and how far its preparation is."""
    return {
        "folder": str(record.folder),
        **record.raw,
        "prepared": record.is_ready,
        **_stages(preparation().report(record)),
    }


def _stages(report: dict[str, Any]) -> dict[str, Any]:
    """How many cases of a preparation are in each stage, and those that its container comments."""
    from collections import Counter

    statuses, names, comments = (
        column if isinstance(column := report.get(name), dict) else {}
        for name in ("status", "status_name", "comment")
    )
    counts = Counter((str(status), str(names.get(case, ""))) for case, status in statuses.items())
    return {
        "stages": [
            {"status": status, "name": name, "cases": count}
            for (status, name), count in sorted(counts.items(), key=str)
        ],
        "cases": [
            {"case": case, "status": statuses.get(case), "comment": comment}
            for case, comment in comments.items()
            if comment
        ],
    }


@group.command(writes=True)
@click.option("-b", "--benchmark", type=Uid(), help="Prepare it as this benchmark wants it.")
@click.option(
    *("-p", "--data_prep", "preparator"), type=Uid(), help="Data preparation container to use."
)
@click.option("-d", "--data_path", type=folder, required=True, help="Folder of the data.")
@click.option("-l", "--labels_path", type=folder, required=True, help="Folder of their labels.")
@click.option(
    *("-m", "--metadata_path"),
    type=folder,
    help="Folder of the preparator's metadata, with --submit-as-prepared.",
)
@click.option("--name", required=True, help="Name, at most 20 characters.")
@click.option("--description", default="", help="What it holds, at most 20 characters.")
@click.option("--location", default="", help="Where it comes from, at most 20 characters.")
@click.option("--submit-as-prepared", "as_prepared", is_flag=True, help="They are prepared data.")
@click.option("--bind", is_flag=True, help="If you registered these data before, use that.")
@yes_option
@online_option
@json_option
@example(
    "medperf dataset submit -b 1 -d data -l labels --name north --location Northgate",
    "medperf dataset submit -p 1 -d data -l labels --name north --submit-as-prepared",
)
def submit(
    benchmark: int | str | None,
    preparator: int | str | None,
    data_path: Path,
    labels_path: Path,
    metadata_path: Path | None,
    as_prepared: bool,
    bind: bool,
    yes: bool,
    require_online: bool,
    as_json: bool,
    **words: str,
) -> None:
    """Register a dataset. The data stay where they are; their hash and your words are sent."""
    from medperf_client.kinds.dataset import dataset_submission

    here = site()
    preparator = _preparator(benchmark, preparator)
    raw = _raw(data_path, labels_path, metadata_path, as_prepared)
    fingerprints = here.storage.fingerprints
    data_hash = fingerprints.folder_hash(data_path, labels_path, progress=here.progress)
    known = _registered_before(preparator, data_hash)
    if known is not None:
        _bind(known, raw, data_hash, bind)
        print_json(known) if as_json else click.echo(f"Dataset {known['id']} is these data.")
        return
    submission = dataset_submission(
        **words,  # type: ignore[arg-type] # the options are its parameters
        preparator=here.queue.reference(preparator),
        data_hash=data_hash,
        as_prepared=as_prepared,
    )
    show_before(submission.body, yes)
    here.tell(ADDRESS)
    confirm("Register this dataset?", yes)
    record = here.datasets.add(
        words["name"],
        preparator=preparator,
        raw=raw,
        as_prepared=as_prepared,
        input_data_hash=data_hash,
    )
    try:
        entry = here.submit(submission)
    except MedPerfError:
        here.datasets.remove(record, here.results.used)
        raise
    here.datasets.registered(record, entry)
    tell_delivered(
        entry,
        as_json,
        require_online,
        lambda made: (
            f"Registered dataset {made['id']} ({made['name']}). "
            f"Prepare it with: medperf dataset prepare -d {made['id']}"
        ),
    )


def _preparator(benchmark: int | str | None, preparator: int | str | None) -> int | str:
    """The UID of the container that is to prepare the data: one's choice, or a benchmark's.

    Raises `NotAdmitted` for what the site's policy does not let run here.
    """
    from medperf_client.admission.lists import BENCHMARKS, PREPARATORS

    if (benchmark is None) == (preparator is None):
        raise UsageError("give --benchmark or --data_prep, one of both")
    here = site()
    if benchmark is not None:
        wanting = here.entity("benchmark", benchmark)
        here.admit(BENCHMARKS, wanting)
        preparator = wanting["data_preparation_mlcube"]
    assert preparator is not None
    container = here.entity("mlcube", preparator)
    here.admit(PREPARATORS, container)
    return container["id"]  # type: ignore[no-any-return]


def _raw(data: Path, labels: Path, metadata: Path | None, as_prepared: bool) -> dict[str, str]:
    """The paths of the folders that were given, by volume. Raises `UsageError` for empty ones."""
    if metadata is not None and not as_prepared:
        raise UsageError("--metadata_path is for data that are prepared: --submit-as-prepared")
    for name, path in {"data_path": data, "labels_path": labels}.items():
        if not any(one.is_file() for one in path.rglob("*")):
            raise UsageError(f"{path}, the {name}, holds no files")
    given = {"data_path": data, "labels_path": labels, "metadata_path": metadata}
    return {name: str(path.resolve()) for name, path in given.items() if path is not None}


def _registered_before(preparator: int | str, data_hash: str) -> dict[str, Any] | None:
    """A dataset of the member's own with the same data, prepared with the same container."""
    here = site()
    return next(
        (
            one
            for one in here.catalog.all("dataset")
            if one["data_preparation_mlcube"] == preparator
            and data_hash in (one["input_data_hash"], one["generated_uid"])
            and here.is_mine(one)
        ),
        None,
    )


def _bind(known: dict[str, Any], raw: dict[str, str], data_hash: str, agreed: bool) -> None:
    """Use these folders for a dataset that is registered. Raises `UsageError` unless that is so."""
    from medperf_client.kinds.submission import OPERATION

    here = site()
    bound = here.datasets.find(known["id"])
    where = f", which is here: {bound.folder}" if bound else ""
    found = f"These data are dataset {known['id']} ({known['name']}) of yours{where}."
    if bound is not None or not agrees(f"{found} Use that, with these folders?", agreed):
        raise UsageError(found, hint="With --bind these folders are used for it on this machine.")
    as_prepared = bool(known.get("submitted_as_prepared"))
    here.datasets.add(
        known["name"],
        preparator=known["data_preparation_mlcube"],
        raw=raw,
        as_prepared=as_prepared,
        input_data_hash=data_hash,
        uid=known["id"],
        is_ready=as_prepared and known["state"] == OPERATION,
    )


@group.command(writes=True)
@dataset_option
@click.option(
    *("-y", "--yes", "--approval", "yes"),
    is_flag=True,
    help="Let the progress be sent, without being asked.",
)
@cache_option
@json_option
@example("medperf dataset prepare -d 3", "medperf dataset prepare -d q7 -y")
def prepare(dataset: int | str, yes: bool, no_cache: bool, as_json: bool) -> None:
    """Prepare a dataset with its container, check it and count it.

    A container that works in stages goes on with what it left, and with what you changed in the
    dataset's folder since. Exit code 1 while something is left to do.
    """
    from medperf_client.admission.lists import PREPARATORS
    from medperf_client.execution.steps import Steps
    from medperf_client.kinds.submission import OPERATION

    here = site()
    entity, record = own_dataset(dataset)
    is_fixed = entity["state"] == OPERATION
    if is_fixed and record.is_ready:
        raise UsageError(
            f"{record.called} is in OPERATION: it is prepared, and nothing of it changes any more"
        )
    preparator = here.entity("mlcube", record.preparator)
    here.admit(PREPARATORS, preparator)
    container = here.library(no_cache).registered(preparator)
    reports = "report_file" in {one.name for one in container.spec.task("prepare").outputs}
    allowed = (
        reports
        and not record.as_prepared
        and not is_fixed
        and may_be_told()
        and agrees(
            "May the registry be told how far it is (the share of cases in each stage)?", yes
        )
    )
    with here.datasets.alone(record) as mine, here.storage.in_use():
        work = preparation(None if is_fixed else mine, allowed)
        steps = Steps(
            here.storage,
            here.platforms.runner_for,
            mine.logs,
            here.limits,
            not no_cache,
            display().watch,
            here.tell,
            here.private,
        )
        done = work.run(mine, container, steps)
        if is_fixed and work.generated_uid(done) != entity["generated_uid"]:
            work.undo(done)
            raise MedPerfError(
                f"what was prepared here is not what {done.called} is",
                "It was prepared from other data, or by another version of the container.",
            )
    display().close()
    if as_json:
        print_json(*_whole([entity]))
        return
    click.echo(plain(f"{done.called} is prepared, in {done.folder}."))
    if not is_fixed:
        click.echo(f"Next: medperf dataset set_operational -d {dataset}")


@group.command(writes=if_given(*DECISIONS))
@click.argument("uid", type=Uid())
@review_options
@json_option
@example(
    "medperf dataset review 3",
    'medperf dataset review 3 --accept age.max --because "Rounded to tens"',
    "medperf dataset review 3 --redact label_counts.rare",
)
def review(uid: int | str, as_json: bool, **decisions: Any) -> None:
    """Show a dataset's statistics with what the disclosure check finds in them, and decide on that.

    It works as `medperf result review`. What you decided is for these statistics: prepare the data
    anew, and what is other in them is decided anew.
    """
    from medperf_client.cli.disclosing import review as reviewed
    from medperf_client.execution.compatibility import read_yaml
    from medperf_client.kinds.submission import OPERATION

    entity, record = own_dataset(uid)
    if not record.statistics.is_file():
        raise UsageError(
            f"{record.called} has no statistics yet",
            hint=f"First: medperf dataset prepare -d {uid}",
        )
    statistics = read_yaml(record.statistics, "the statistics of the dataset")
    reviewed(record.called, statistics, entity["state"] == OPERATION, as_json, **decisions)


@group.command("set-operational", writes=True)
@dataset_option
@yes_option
@online_option
@json_option
@example("medperf dataset set_operational -d 3")
def set_operational(dataset: int | str, yes: bool, require_online: bool, as_json: bool) -> None:
    """Say that a dataset is ready and fixed. Its statistics are sent, which you see first.

    What the disclosure check finds in them holds them back, with -y too: `medperf dataset review`.
    """
    from medperf_client.execution.compatibility import read_yaml
    from medperf_client.kinds.dataset import dataset_operational
    from medperf_client.kinds.submission import OPERATION, told

    here = site()
    entity, record = own_dataset(dataset)
    if entity["state"] == OPERATION:
        raise UsageError(f"{record.called} is in OPERATION already")
    with here.datasets.alone(record) as mine:
        work = preparation()
        given, made = work.hashes(mine)
        statistics = read_yaml(mine.statistics, "the statistics of the dataset")
        (reviewed,) = cleared({f"dataset review {dataset}": statistics})
        # Not who agreed: whose a dataset is others do not learn.
        said = {**(entity.get("user_metadata") or {}), **told({**reviewed.record(), **persons()})}
        submission = dataset_operational(
            here.queue.reference(dataset), given, made, reviewed.document, said
        )
        show_before(submission.body, yes)
        confirm(f"Set {mine.called} operational? There is no way back.", yes)
        of = {"dataset": {"name": mine.name, "generated_uid": made}}
        called = f"the statistics of {mine.called}"
        standing = agreed_to(f"dataset-{mine.folder.name}", called, of, reviewed)
        entry = here.submit(submission)
        sent(standing, entry.uid)
        work.take_over(mine, made)
    tell_delivered(
        entry,
        as_json,
        require_online,
        lambda made: f"Dataset {made['id']} ({made['name']}) is in OPERATION.",
    )


@group.command(writes=True)
@dataset_option
@click.option(
    "-b", "--benchmark_uid", "--benchmark", "benchmark", type=Uid(), required=True, help="UID."
)
@yes_option
@cache_option
@online_option
@json_option
@example("medperf dataset associate -d 3 -b 1")
def associate(
    dataset: int | str,
    benchmark: int | str,
    yes: bool,
    no_cache: bool,
    require_online: bool,
    as_json: bool,
) -> None:
    """Ask that a dataset takes part in a benchmark.

    Its reference model runs on the data first; you see what it gave before that is sent to the
    benchmark's committee. What the disclosure check finds in it holds it back, with -y too:
    `medperf result review`.
    """
    from medperf_client.cli.evaluating import evaluated, tell_outcomes
    from medperf_client.cli.result import came_of
    from medperf_client.kinds.dataset_association import dataset_request

    here = site()
    _may_ask(dataset, benchmark)
    outcomes = evaluated(benchmark, dataset, "reference", no_cache)
    if outcomes[0].result is None:
        tell_outcomes(outcomes, False)
        raise MedPerfError(f"the reference model failed: {outcomes[0].error}")
    result = outcomes[0].result
    (reviewed,) = cleared({f"result review {result.uid}": result.results})
    queue = here.queue
    request = dataset_request(
        queue.reference(dataset),
        queue.reference(benchmark),
        reviewed.document,
        {**reviewed.record(), **persons()},
    )
    show_before(request.body, yes)
    confirm(f"Ask that dataset {dataset} takes part in benchmark {benchmark}?", yes)
    called = f"the request of dataset {dataset} to take part in benchmark {benchmark}"
    standing = agreed_to(f"request-{result.name}", called, came_of(result), reviewed)
    entry = here.submit(request)
    sent(standing, entry.uid)
    tell_delivered(
        entry,
        as_json,
        require_online,
        lambda made: (
            f"Dataset {made['dataset']} in benchmark {made['benchmark']}: "
            f"{made['approval_status']}."
        ),
    )


def _may_ask(dataset: int | str, benchmark: int | str) -> None:
    """Raise `UsageError` for a request that the registry is known to refuse."""
    from medperf_client.kinds.submission import APPROVED, PENDING

    queue = site().queue
    status = statuses_in_benchmarks().get((queue.real_uid(dataset), queue.real_uid(benchmark)))
    if status in (PENDING, APPROVED):
        raise UsageError(
            f"dataset {dataset} is {status} in benchmark {benchmark} already",
            hint="See: medperf association ls -bd",
        )


@group.command(writes=True)
@dataset_option
@click.option(
    *("-o", "--output", "folder"),
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder to write <UID>.tar.gz to.",
)
@json_option
@example("medperf dataset export -d 3 -o /media/usb")
def export(dataset: int | str, folder: Path, as_json: bool) -> None:
    """Write a dataset to a file, to carry it to another machine of yours.

    What was prepared of it goes along and, until it is in OPERATION, the raw data. All of that is
    patients' data: the file is for nobody else.
    """
    here = site()
    entity, record = own_dataset(dataset)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{entity['id']}.tar.gz"
    with here.datasets.alone(record) as mine:
        about = _carrier(f"writing {file}").export(mine, entity, file)
    display().close()
    if as_json:
        print_json(
            {"dataset": about.dataset, "file": str(file), "file_bytes": file.stat().st_size}
            | {"parts": sorted(about.parts), "bytes": about.total_bytes}
        )
        return
    click.echo(plain(f"Wrote {file}: {human_size(file.stat().st_size)}."))
    click.echo(plain(f"On the other machine: medperf dataset import -d {about.dataset} -i {file}"))


@group.command("import", writes=True)
@dataset_option
@click.option(
    *("-i", "--input", "file"),
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="File that `medperf dataset export` wrote.",
)
@click.option(
    *("--raw_dataset_path", "raw_folder"),
    type=click.Path(path_type=Path),
    help="Folder to make for the raw data, which come along until it is in OPERATION.",
)
@json_option
@example(
    "medperf dataset import -d 3 -i /media/usb/3.tar.gz",
    "medperf dataset import -d 4 -i 4.tar.gz --raw_dataset_path /data/north",
)
def import_(dataset: int | str, file: Path, raw_folder: Path | None, as_json: bool) -> None:
    """Have a dataset of yours on this machine, from a file of another one.

    All of it is proved before any of it is here: that it is what was exported and, in OPERATION,
    what was registered.
    """
    here = site()
    entity = here.as_asked("dataset", here.queue.real_uid(dataset))
    if not here.is_mine(entity) and isinstance(entity["id"], int):
        raise UsageError(
            f"dataset {dataset} ({entity['name']}) is not yours",
            hint="See: medperf dataset ls --mine",
        )
    record = _carrier(f"reading {file}").take(file, entity, raw_folder)
    display().close()
    if as_json:
        print_json(*_whole([entity]))
        return
    click.echo(plain(f"{record.called} is here, in {record.folder}."))


def _carrier(what: str) -> "Carrier":
    """What exports and imports datasets, and shows how far that is."""
    from medperf_client.datasets.carrying import Carrier

    here = site()

    def progress(done: int, total: int) -> None:
        # The end is told by the command.
        if done < total:
            here.progress(what, done, total)

    url = here.profile.server_url
    fingerprints = here.storage.fingerprints
    return Carrier(url, here.datasets, preparation(), fingerprints, here.ledger, progress)


@group.command(writes=True)
@dataset_option
@yes_option
@example("medperf dataset rm -d 3")
def rm(dataset: int | str, yes: bool) -> None:
    """Delete what was prepared of a dataset on this machine. The raw data stay."""
    here = site()
    _, record = own_dataset(dataset)
    confirm(f"Delete {record.folder}, with all that was prepared of {record.called}?", yes)
    here.datasets.remove(record, here.results.used)
