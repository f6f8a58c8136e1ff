"""Draw a job's report as one page that needs nothing else: style and charts are in it, and it runs no script."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

__all__ = ["render_report"]

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --dim: #667085; --line: #d8dee8; --bar: #2f6fde; --bad: #c2322d;
  --paper: #fff; --card: #f6f8fb; --good: #1b7f4b; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7ebf2; --dim: #98a2b3; --line: #344054; --bar: #6ea0ff;
  --bad: #ff7b72; --paper: #11151c; --card: #1a202b; --good: #56c98a; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 2rem auto;
  max-width: 60rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin: 0; overflow-wrap: anywhere; } h2 { font-size: 1.05rem; margin: 2rem 0 .5rem; }
.dim { color: var(--dim); } .bad { color: var(--bad); } .good { color: var(--good); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(7.4rem, 1fr)); gap: .7rem; margin: 1.25rem 0; }
.card { background: var(--card); border-radius: .5rem; padding: .7rem .8rem; }
.card b { display: block; font-size: 1.2rem; white-space: nowrap; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; }
td { overflow-wrap: break-word; min-width: 9rem; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; min-width: 0; }
tr.more td { padding-top: 0; } tr.led td { border-bottom: 0; }
.bars { display: grid; grid-template-columns: max-content 1fr; gap: .3rem .75rem; align-items: center; }
.bars span { text-align: right; } .bars div { display: flex; gap: .5rem; align-items: center; }
.bars i { background: var(--bar); height: .9rem; border-radius: .15rem; min-width: 1px; flex: 0 1 auto; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); gap: 1rem; }
figure { margin: 0; } figcaption { color: var(--dim); } svg { width: 100%; display: block; }
svg text { fill: var(--dim); font: 13px system-ui, sans-serif; } svg .line { stroke: var(--line); }
svg .dot { fill: var(--bar); fill-opacity: .7; }
"""

_STATUS_CLASS = {"Completed": "good", "Failed": "bad"}


def render_report(report: Mapping[str, Any]) -> str:
    """Return the page of a report as its JSON document has it; every text in it is escaped."""
    name = escape(report["name"])
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{name}</title><style>{_STYLE}</style></head><body>",
            *_head(report),
            *_cards(report),
            *_conservation(report["records"], report["rows_out"]),
            *_latency(report),
            *_tuning(report.get("tuning") or []),
            *_failures(report),
            *_instances(report["instances"]),
            *_settings(report),
            "</body></html>",
            "",
        ]
    )


def _head(report: Mapping[str, Any]) -> Iterable[str]:
    status = report["status"]
    yield f'<h1>{escape(report["name"])} <span class="{_STATUS_CLASS.get(status, "dim")}">{escape(status)}</span></h1>'
    places = f"{escape(report['input'])} &rarr; {escape(report['output'])}"
    yield f'<div class="dim">{places}, model {escape(report["model"])}'
    yield f"<br>created {_time(report['created_at'])}, started {_time(report['started_at'])}, "
    yield f"ended {_time(report['ended_at'])} (UTC)</div>"
    if report["failure_reason"]:
        yield f'<p class="bad">{escape(report["failure_reason"])}</p>'


def _time(text: str | None) -> str:
    return "&ndash;" if text is None else escape(text.partition(".")[0].replace("T", " ").removesuffix("Z"))


def _cards(report: Mapping[str, Any]) -> Iterable[str]:
    objects, sizes, rates, latency = report["objects"], report["size_bytes"], report["rates"], report["latency_ms"]
    cards = (
        ("records out", f"{report['records']['out']:,}", f"{rates['records_per_second']:,.0f}/s"),
        ("objects out", f"{objects['out']:,} of {objects['in']:,}", _missing(objects)),
        ("read", _size(sizes["in"]), f"{_size(rates['bytes_per_second'])}/s"),
        ("written", _size(sizes["out"]), ""),
        ("time", f"{report['seconds']:,.1f} s", ""),
        ("requests", f"{report['requests']['sent']:,}", f"{report['requests']['retries']:,} sent again"),
        ("latency p50", f"{_milliseconds(latency['p50'])} ms", f"p99 {_milliseconds(latency['p99'])} ms"),
    )
    yield '<div class="cards">'
    for title, value, more in cards:
        yield f'<div class="card"><span class="dim">{title}</span><b>{value}</b><span class="dim">{more}</span></div>'
    yield "</div>"


def _missing(objects: Mapping[str, int]) -> str:
    """Say of which objects there is no output."""
    words = [f'<span class="bad">{objects["failed"]:,} failed</span>'] if objects["failed"] else []
    words += [f"{objects['not_done']:,} not done"] if objects["not_done"] else []
    return ", ".join(words)


def _milliseconds(latency: float) -> str:
    return f"{latency:,.0f}" if latency >= 100 else f"{latency:.3g}"


def _size(count: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count:,.0f} B"


def _conservation(records: Mapping[str, int], rows: int | None) -> Iterable[str]:
    yield "<h2>Records</h2><p>"
    told = ""
    if records["failed"]:
        told = (
            f'. <span class="bad">{100 * records["failed"] / records["in"]:.2g} % are bad</span>: '
            "<code>&lt;name&gt;.errors.jsonl</code> beside the outputs tells each of them"
        )
    yield (
        f"{records['in']:,} in = {records['out']:,} with a result + {records['failed']:,} bad + "
        f"{records['filtered']:,} left out (blank){told}"
    )
    if rows is not None and rows != records["out"]:
        yield f'. <span class="bad">The answers have {rows:,} rows</span>, not one for each record'
    yield "</p>"


def _latency(report: Mapping[str, Any]) -> Iterable[str]:
    counts: Sequence[Mapping[str, Any]] = report["latency_counts"]
    if not counts:
        return
    yield '<h2>Requests by latency</h2><div class="bars">'
    most = max(entry["requests"] for entry in counts)
    for entry in counts:
        width = 85 * entry["requests"] / most
        yield f'<span class="dim">{_bound(entry["up_to_ms"])}</span>'
        yield f'<div><i style="width:{width:.1f}%"></i><span class="dim">{entry["requests"]:,}</span></div>'
    yield "</div>"


def _bound(milliseconds: float | None) -> str:
    if milliseconds is None:
        return "longer"
    return f"up to {milliseconds / 1000:g} s" if milliseconds >= 1000 else f"up to {milliseconds:g} ms"


def _tuning(points: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    """Draw what the autotuner measured; each setting stands in the tooltip of its dots."""
    measured = [point for point in points if point["records_per_second"]]
    if not measured:
        return
    yield '<h2>What the autotuner measured</h2><div class="charts">'
    yield from _dots(measured, "concurrency", "records a second by requests at a time", "{:,.0f}")
    if len({point["payload_bytes"] for point in measured}) > 1:
        yield from _dots(measured, "payload_bytes", "records a second by size of payloads", None)
    yield from _dots(measured, "at_seconds", "records a second over time", "{:,.1f} s")
    yield "</div>"


def _dots(points: Sequence[Mapping[str, Any]], across: str, title: str, form: str | None) -> Iterable[str]:
    """Draw records a second over something else; `form` words that, None stands for bytes."""
    until = max(point[across] for point in points) or 1
    most = max(point["records_per_second"] for point in points)
    label = _size(until) if form is None else form.format(until)
    yield f'<figure><svg role="img" viewBox="0 0 400 210" aria-label="{title}">'
    yield '<line class="line" x1="60" y1="180" x2="395" y2="180"/><line class="line" x1="60" y1="8" x2="60" y2="180"/>'
    yield f'<text x="54" y="18" text-anchor="end">{most:,.0f}</text><text x="54" y="182" text-anchor="end">0</text>'
    yield f'<text x="390" y="200" text-anchor="end">{label}</text>'
    for point in points:
        x, y = 60 + 330 * point[across] / until, 180 - 166 * point["records_per_second"] / most
        told = (
            f"{point['concurrency']} at a time, {_size(point['payload_bytes'])} payloads: "
            f"{point['records_per_second']:,.0f} records a second, {point['verdict']}"
        )
        yield f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="3.5"><title>{escape(told)}</title></circle>'
    yield f"</svg><figcaption>{title}</figcaption></figure>"


def _failures(report: Mapping[str, Any]) -> Iterable[str]:
    failures: Sequence[Mapping[str, Any]] = report["failures"]
    if not failures:
        return
    yield "<h2>Failed objects</h2>"
    rows = [
        (
            escape(entry["key"]),
            "" if entry["record"] is None else f"{entry['record']:,}",
            "" if entry["offset"] is None else f"{entry['offset']:,}",
            escape(f"{entry['label']}: {entry['message']}"),
            escape(entry["answer"] or ""),
        )
        for entry in failures
    ]
    yield from _table(("object", "record", "byte", "why", "answer"), rows, numbers=(1, 2))
    if report["failures_not_shown"]:
        yield f'<p class="dim">and {report["failures_not_shown"]:,} more</p>'


def _instances(instances: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    yield "<h2>Instances</h2>"
    rows = [
        (
            f"{entry['index']}",
            f"{entry['attempts']}",
            f"{entry['objects']:,}",
            f"{entry['records']:,}",
            _size(entry["bytes_in"]),
            f"{entry['requests']:,}",
            f"{entry['retries']:,}",
            _milliseconds(entry["p50_ms"]),
            _milliseconds(entry["p99_ms"]),
        )
        for entry in instances
    ]
    more = [escape(". ".join(filter(None, (entry["settings"], entry["tuning"])))) for entry in instances]
    titles = ("instance", "attempts", "objects", "records", "read", "requests", "again", "p50 ms", "p99 ms")
    yield from _table(titles, rows, numbers=range(len(titles)), more=more)


def _settings(report: Mapping[str, Any]) -> Iterable[str]:
    yield "<h2>Settings</h2>"
    settings = {**report["settings"]}
    variables = settings.pop("Environment")
    rows = [(escape(name), _value(value)) for name, value in settings.items()]
    rows += [(f"Environment.{escape(name)}", escape(value)) for name, value in variables.items()]
    yield from _table(("setting", "value"), rows)


def _value(value: object) -> str:
    return '<span class="dim">left to the container</span>' if value is None else escape(str(value))


def _table(
    titles: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = (), more: Sequence[str] = ()
) -> Iterable[str]:
    """Yield a table of cells that are HTML already; `more` stands below each row, over all columns."""
    kinds = [' class="number"' if column in numbers else "" for column in range(len(titles))]
    yield '<div class="scroll"><table><thead><tr>'
    yield "".join(f"<th{kind}>{title}</th>" for kind, title in zip(kinds, titles, strict=True))
    yield "</tr></thead><tbody>"
    for number, row in enumerate(rows):
        cells = "".join(f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds, row, strict=True))
        below = more[number] if more else ""
        yield f'<tr class="led">{cells}</tr>' if below else f"<tr>{cells}</tr>"
        if below:
            yield f'<tr class="more"><td colspan="{len(titles)}" class="dim">{below}</td></tr>'
    yield "</tbody></table></div>"
