"""The page of a ledger: one file of HTML that needs nothing else, to read and to print."""

import json
from collections.abc import Iterable, Iterator
from html import escape

from medperf_cache.chain import Verdict
from medperf_cache.errors import NotCached
from medperf_client.errors import MedPerfError
from medperf_client.ledger.records import EXPORT, Departure, Ledger, agreed

# No colours of its own: those of the reader, light or dark, and black on paper.
STYLE = """
:root { color-scheme: light dark; }
html { background: Canvas; color: CanvasText; }
body { font: 1rem/1.5 system-ui, sans-serif; margin: 1.5rem 1rem; overflow-wrap: anywhere; }
main { margin: auto; max-width: 80rem; }
code, pre { font-family: ui-monospace, monospace; font-size: .85em; }
pre { border-left: 2px solid; padding-left: 1rem; white-space: pre-wrap; }
table { border-collapse: collapse; width: 100%; }
caption { font-weight: bold; text-align: left; }
td, th { border-bottom: 1px solid; padding: .3rem .5rem; text-align: left; vertical-align: top; }
td.number { min-width: 6ch; text-align: right; }
th, time { overflow-wrap: normal; white-space: nowrap; }
td { min-width: 14ch; }
td code { display: inline-block; min-width: 32ch; }
a { color: LinkText; }
dt { font-weight: bold; } dd { margin: 0 0 .5rem; }
.wide { overflow-x: auto; }
@media print {
  @page { margin: 1.2cm; size: A4 landscape; }
  body { color-scheme: light; font-size: 9pt; margin: 0; max-width: none; padding: 0; }
  .wide { overflow: visible; }
  thead { display: table-header-group; }
  tr, h3 { break-inside: avoid; break-after: auto; }
  h3 { break-after: avoid; }
  a { color: inherit; text-decoration: none; }
}
"""


def page(
    ledger: Ledger,
    left: list[Departure],
    registry: str,
    exported_at: str,
    verdict: Verdict,
    last: str | None,
    bodies: bool,
) -> Iterator[str]:
    """The page in pieces. `last` is what to note of the last line, `NUMBER:DIGEST`."""
    yield (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>What left this site for {_text(registry)}</title>\n<style>{STYLE}</style>\n"
        f"</head>\n<body>\n<main>\n<h1>What left this site</h1>\n"
    )
    yield from _about(left, registry, exported_at, verdict, last)
    yield (
        '<h2 id="left">All that left</h2>\n'
        '<div class="wide" role="region" aria-labelledby="left" tabindex="0">\n'
        "<table>\n<caption>In the order in which it left</caption>\n<thead><tr>"
        + "".join(
            f'<th scope="col">{name}</th>'
            for name in ("Line", "Time (UTC)", "Member", "What", "Bytes", "SHA-256", "Answer")
        )
        + "</tr></thead>\n<tbody>\n"
    )
    for one in left:
        yield _row(one, bodies)
    yield "</tbody>\n</table>\n</div>\n"
    if bodies:
        yield "<h2>What was sent, word for word</h2>\n"
        for one in left:
            yield from _whole(ledger, one)
    yield "</main>\n</body>\n</html>\n"


def _about(
    left: list[Departure], registry: str, exported_at: str, verdict: Verdict, last: str | None
) -> Iterator[str]:
    files = sum(one.record["event"] == EXPORT for one in left)
    yield "<dl>\n"
    for name, value in (
        ("Registry", registry),
        ("Written", exported_at),
        ("Requests that may have left", len(left) - files),
        ("Files that were written to be carried", files),
        ("Lines of the ledger", verdict.lines),
    ):
        yield f"<dt>{name}</dt><dd>{_text(value)}</dd>\n"
    if last:
        yield (
            f"<dt>Last line</dt><dd><code>{_text(last)}</code> Keep this page: "
            "<code>medperf ledger verify --noted</code> with this number and digest shows later "
            "that nothing up to here was changed or cut.</dd>\n"
        )
    yield "</dl>\n<h2>Is it as it was written?</h2>\n"
    if not verdict.findings:
        yield "<p>Yes: every line follows from the one before, and what is beside is whole.</p>\n"
    else:
        yield "<p><strong>No.</strong> This was found:</p>\n" + _list(verdict.findings)
    if verdict.notes:
        yield "<p>Traces of interruptions, which take nothing away:</p>\n" + _list(verdict.notes)


def _row(one: Departure, bodies: bool) -> str:
    member, others = one.record.get("member") or {}, agreed(one.record)
    who = member.get("email") or member.get("id") or "not known"
    number = f'<a href="#line-{one.number}">{one.number}</a>' if bodies else str(one.number)
    return (
        f'<tr><th scope="row">{number}</th><td>{_time(one.record["at"])}</td>'
        f"<td>{_text(f'{who}; agreed: {others}' if others else who)}</td>"
        f'<td>{_text(one.what)}</td><td class="number">{one.size_bytes}</td>'
        f"<td><code>{_text(one.sha256)}</code></td><td>{_text(one.outcome)}</td></tr>\n"
    )


def _whole(ledger: Ledger, one: Departure) -> Iterator[str]:
    yield f'<h3 id="line-{one.number}">Line {one.number}: {_text(one.what)}</h3>\n'
    try:
        body = ledger.body(one)
        documents = {
            name: ledger.chain.kept(digest)
            for name, digest in one.record.get("attached", {}).items()
        }
    except (MedPerfError, NotCached) as error:
        yield f"<p>{_text(error)}</p>\n"
        return
    if body is None:
        yield "<p>A file, or a piece of one: of files that are uploaded the digest is kept.</p>\n"
    else:
        yield f"<pre>{_text(_readable(body)) or 'nothing'}</pre>\n"
    for name, data in documents.items():
        yield f"<p>In it, {_text(name)}:</p>\n"
        yield f"<pre>{_text(chr(10).join(map(_readable, data.splitlines())))}</pre>\n"


def _readable(body: bytes) -> str:
    try:
        return json.dumps(json.loads(body), indent=1, ensure_ascii=False)
    except (ValueError, RecursionError):
        return body.decode("utf-8", "backslashreplace")


def _list(lines: Iterable[str]) -> str:
    items = "".join(f"<li>{_text(line)}</li>\n" for line in lines)
    return f"<ul>\n{items}</ul>\n"


def _time(moment: str) -> str:
    """A time to the second, as people write it."""
    return f'<time datetime="{_text(moment)}">{_text(moment[:19].replace("T", " "))}</time>'


def _text(value: object) -> str:
    """Text of anybody, with nothing that is markup, or that turns around what stands beside it."""
    text = str(value)
    if not text.isprintable():
        shown = "\N{REPLACEMENT CHARACTER}"
        text = "".join(char if char.isprintable() or char == "\n" else shown for char in text)
    return escape(text)
