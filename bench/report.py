"""The figures as the table that stands in README.md, and the machine they are of."""

import os
import platform
import re
import shutil
import statistics
import subprocess
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from storage.embedded import find_binary

FLOOR_FORM, FLOOR_BARE = "FastAPI `Form()`, echo", "bare ASGI, echo"
EVERYSEC, ALWAYS = "Dial 16, appendfsync everysec", "Dial 16, appendfsync always"
TEXTS_EVERYSEC, TEXTS_ALWAYS = (f"Dial 16, inbound SMS, appendfsync {x}" for x in ("everysec", "always"))


@dataclass
class Results:
    """What goes to results/latest.json."""

    machine: dict[str, str]
    hops_per_interview: float = 0.0
    texts_per_interview: int = 0
    servers: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    flat: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    octets: dict[str, float] = field(default_factory=dict)
    recorder: str = ""


def machine() -> dict[str, str]:
    """What the figures were measured on."""

    def first(path: str, pattern: str) -> str:
        try:
            found = re.search(pattern, Path(path).read_text(), re.MULTILINE)
        except OSError:
            found = None
        return found[1].strip().strip('"') if found else "unknown"

    store = subprocess.run(
        [shutil.which("redis-server") or str(find_binary()), "--version"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    found = re.search(r"v=([\d.]+)", store)
    kind = "Valkey" if "valkey" in store.lower() else "Redis"
    model = first("/proc/cpuinfo", r"^model name\s*:(.*)")
    memory = first("/proc/meminfo", r"^MemTotal:\s*(\d+)")
    system = first("/etc/os-release", r"^PRETTY_NAME=(.*)")
    packages = (
        "fastapi",
        "starlette",
        "uvicorn",
        "uvloop",
        "httptools",
        "hiredis",
        "redis",
        "sqlalchemy",
        "psycopg",
    )
    return {
        "processor": f"{os.cpu_count()} cores, {model}",
        "memory": f"{int(memory) / 2**20:.0f} GiB" if memory.isdigit() else memory,
        "system": f"{system}, Linux {platform.release().split('-')[0]}",
        "python": f"Python {platform.python_version()}",
        "live store": f"{kind} {found[1] if found else '?'}",
        "packages": ", ".join(f"{name} {version(name)}" for name in packages),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def middle(rows: list[dict[str, Any]], name: str) -> float:
    return float(statistics.median(row[name] for row in rows))


def table(results: Results) -> str:
    """The figures as README's table."""
    spread = "{:.3f} ({:.3f}-{:.3f})"
    base = middle(results.servers[FLOOR_FORM], "server_ms_per_hop")
    out = [
        "| server | CPU ms a hop: median (least-most) | times the `Form()` floor | hops/s | p50 ms | p99 ms"
        " | p99.9 ms | live store CPU ms a hop |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, rows in results.servers.items():
        costs = sorted(row["server_ms_per_hop"] for row in rows)
        store = [row["other_ms_per_hop"].get("live store") for row in rows]
        known = [value for value in store if value is not None]
        out.append(
            f"| {name} | {spread.format(statistics.median(costs), costs[0], costs[-1])}"
            f" | {statistics.median(costs) / base:.2f} | {middle(rows, 'hops_per_second'):,.0f}"
            f" | {middle(rows, 'p50'):.1f} | {middle(rows, 'p99'):.1f} | {middle(rows, 'p999'):.1f}"
            f" | {f'{statistics.median(known):.3f}' if known else '-'} |"
        )
    out += [
        "",
        "| interviews in the live store | CPU ms a hop | live store CPU ms a hop | p99 ms |",
        "|---|---|---|---|",
    ]
    for name, rows in results.flat.items():
        store = statistics.median(row["other_ms_per_hop"]["live store"] for row in rows)
        out.append(
            f"| {name.removesuffix(' interviews')} | {middle(rows, 'server_ms_per_hop'):.3f} | {store:.3f}"
            f" | {middle(rows, 'p99'):.1f} |"
        )
    out += [
        "",
        "Live store, octets an interview: "
        + ", ".join(f"{k} {v:.0f}" for k, v in results.octets.items())
        + ".",
    ]
    out += ["", f"Recorder into PostgreSQL: {results.recorder}."]
    others = [row["machine_others"] for rows in results.servers.values() for row in rows]
    out += [
        "",
        f"One interview: {results.hops_per_interview:.0f} hops, by SMS {results.texts_per_interview}"
        " messages;"
        f" {len(others) // len(results.servers)} repeats of each server, in turn."
        f" Other processes took {statistics.median(others):.0%} of the machine (at most {max(others):.0%}).",
        "",
        "Machine: " + "; ".join(results.machine.values()) + ".",
    ]
    return "\n".join(out)
