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
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .75rem; margin: 1.25rem 0; }
.card { background: var(--card); border-radius: .5rem; padding: .75rem 1rem; }
.card b { display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top;
  overflow-wrap: anywhere; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
svg text { fill: var(--dim); font: 11px system-ui, sans-serif; } svg .bar { fill: var(--bar); }
svg .line { stroke: var(--line); } svg .dot { fill: var(--bar); } svg .other { fill: var(--dim); opacity: .6; }
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
            *_conservation(report["records"]),
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
    yield f"ended {_time(report['ended_at'])}</div>"
    if report["failure_reason"]:
        yield f'<p class="bad">{escape(report["failure_reason"])}</p>'


def _time(text: str | None) -> str:
    return "&ndash;" if text is None else escape(text.partition(".")[0].replace("T", " ").removesuffix("Z"))


def _cards(report: Mapping[str, Any]) -> Iterable[str]:
    objects, sizes, rates, latency = report["objects"], report["size_bytes"], report["rates"], report["latency_ms"]
    cards = (
        ("records out", f"{report['records']['out']:,}", f"{rates['records_per_second']:,.0f} a second"),
        ("objects out", f"{objects['out']:,}", f"of {objects['in']:,}; {objects['failed']:,} failed"),
        ("read", _size(sizes["in"]), f"{_size(rates['bytes_per_second'])} a second"),
        ("written", _size(sizes["out"]), ""),
        ("time", f"{report['seconds']:,.1f} s", ""),
        ("requests", f"{report['requests']['sent']:,}", f"{report['requests']['retries']:,} sent again"),
        ("latency p50", f"{_milliseconds(latency['p50'])} ms", f"p99 {_milliseconds(latency['p99'])} ms"),
    )
    yield '<div class="cards">'
    for title, value, more in cards:
        yield f'<div class="card"><span class="dim">{title}</span><b>{value}</b><span class="dim">{more}</span></div>'
    yield "</div>"


def _milliseconds(latency: float) -> str:
    return f"{latency:,.0f}" if latency >= 100 else f"{latency:.3g}"


def _size(count: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count:,.0f} B"


def _conservation(records: Mapping[str, int]) -> Iterable[str]:
    yield "<h2>Records</h2><p>"
    yield f"{records['in']:,} in = {records['out']:,} with a result + {records['failed']:,} bad + "
    yield f"{records['filtered']:,} left out (blank)</p>"


def _latency(report: Mapping[str, Any]) -> Iterable[str]:
    counts: Sequence[Mapping[str, Any]] = report["latency_counts"]
    if not counts:
        return
    yield "<h2>Requests by latency</h2>"
    most = max(entry["requests"] for entry in counts)
    yield f'<svg role="img" width="100%" viewBox="0 0 600 {len(counts) * 20}" aria-label="requests by latency">'
    for row, entry in enumerate(counts):
        bound = "longer" if entry["up_to_ms"] is None else f"up to {entry['up_to_ms']:g} ms"
        width = max(1.0, 400 * entry["requests"] / most)
        top = row * 20
        yield f'<text x="95" y="{top + 14}" text-anchor="end">{bound}</text>'
        yield f'<rect class="bar" x="105" y="{top + 3}" width="{width:.1f}" height="14" rx="2"/>'
        yield f'<text x="{111 + width:.1f}" y="{top + 14}">{entry["requests"]:,}</text>'
    yield "</svg>"


def _tuning(points: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    """Draw what the autotuner measured: records a second over time, each setting in its tooltip."""
    measured = [point for point in points if point["records_per_second"]]
    if not measured:
        return
    yield "<h2>What the autotuner measured (records a second over time)</h2>"
    until = max(point["at_seconds"] for point in measured) or 1.0
    most = max(point["records_per_second"] for point in measured)
    yield '<svg role="img" width="100%" viewBox="0 0 600 190" aria-label="records a second over time">'
    yield '<line class="line" x1="60" y1="165" x2="590" y2="165"/><line class="line" x1="60" y1="10" x2="60" y2="165"/>'
    yield f'<text x="55" y="18" text-anchor="end">{most:,.0f}</text><text x="590" y="182" text-anchor="end">'
    yield f'{until:,.1f} s</text><text x="55" y="165" text-anchor="end">0</text>'
    for point in measured:
        x, y = 60 + 525 * point["at_seconds"] / until, 165 - 150 * point["records_per_second"] / most
        told = (
            f"{point['concurrency']} at a time, {_size(point['payload_bytes'])} payloads: "
            f"{point['records_per_second']:,.0f} records a second, {point['verdict']}"
        )
        yield f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="3.5"><title>{escape(told)}</title></circle>'
    yield "</svg>"


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
            escape("; ".join(filter(None, (entry["settings"], entry["tuning"])))),
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
    titles = ("instance", "attempts", "ran with", "objects", "records", "read", "requests", "again", "p50 ms", "p99 ms")
    yield from _table(titles, rows, numbers=(0, 1, 3, 4, 5, 6, 7, 8, 9))


def _settings(report: Mapping[str, Any]) -> Iterable[str]:
    yield "<h2>Settings</h2>"
    settings = {**report["settings"]}
    variables = settings.pop("Environment")
    rows = [(escape(name), _value(value)) for name, value in settings.items()]
    rows += [(f"Environment.{escape(name)}", escape(value)) for name, value in variables.items()]
    yield from _table(("setting", "value"), rows)


def _value(value: object) -> str:
    return '<span class="dim">left to the container</span>' if value is None else escape(str(value))


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()) -> Iterable[str]:
    """Yield a table of cells that are HTML already."""
    kinds = [' class="number"' if column in numbers else "" for column in range(len(titles))]
    yield '<div class="scroll"><table><thead><tr>'
    yield "".join(f"<th{kind}>{title}</th>" for kind, title in zip(kinds, titles, strict=True))
    yield "</tr></thead><tbody>"
    for row in rows:
        yield "<tr>" + "".join(f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds, row, strict=True)) + "</tr>"
    yield "</tbody></table></div>"
