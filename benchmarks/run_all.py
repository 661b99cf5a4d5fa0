"""Run every benchmark, one after the other, and keep the figures of this machine.

Writes ``benchmarks/results/<machine>.json`` and the table ``docs/benchmarks.md``. Each benchmark is
a script of its own that checks its answers before it times anything; one that fails ends the run,
and the figures of those before it are kept.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.timing import commit, machine

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results"
TABLE = ROOT / "docs" / "benchmarks.md"
SCRIPTS = (
    "end_to_end",
    "kernels",
    "engines",
    "memory",
    "triton_share",
    "urgency",
    "batch",
    "qido",
    "study_page",
)
COMMON = ("machine", "versions", "commit", "question")


def main() -> None:
    """Run what is asked for, else everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=SCRIPTS, default=list(SCRIPTS))
    parser.add_argument("--table", action="store_true", help="only write the table again")
    options = parser.parse_args()
    path = RESULTS / f"{machine_slug()}.json"
    if not options.table:
        for name in options.only:
            sys.stdout.write(f"== {name}\n")
            sys.stdout.flush()
            keep(path, name, run_script(name))
    write_table()


def run_script(name: str) -> list[dict[str, Any]]:
    """Run one benchmark in its own process and return its entries.

    Raises
    ------
    subprocess.CalledProcessError
        It failed, or its answers were not right.
    """
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / f"{name}.json"
        command = [sys.executable, "-m", f"benchmarks.{name}", "--write", str(written)]
        subprocess.run(command, check=True, cwd=ROOT)
        entries = json.loads(written.read_text())
    return entries if isinstance(entries, list) else [entries]


def keep(path: Path, name: str, entries: list[dict[str, Any]]) -> None:
    """Replace one benchmark's entries in the machine's file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = json.loads(path.read_text()) if path.is_file() else {}
    content["machine"] = machine()
    content.setdefault("results", {})[name] = {
        "commit": commit(),
        "versions": next((e["versions"] for e in entries if "versions" in e), {}),
        "question": next((e["question"] for e in entries if "question" in e), name),
        "entries": [{k: v for k, v in e.items() if k not in COMMON} for e in entries],
    }
    path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")


def machine_slug() -> str:
    """Name of this machine's file: processor and cores."""
    found = machine()
    return re.sub(r"[^a-z0-9]+", "-", f"{found['cpu']} {found['cores']} cores".lower()).strip("-")


def write_table() -> None:
    """Write ``docs/benchmarks.md`` from every machine's file."""
    parts = [
        "# Benchmarks\n\n"
        "Made by `make bench` from `benchmarks/results/`; do not edit. Each benchmark checks its\n"
        "answers first. Ratios were measured side by side in one run; seconds depend on the\n"
        "machine.\n"
    ]
    for path in sorted(RESULTS.glob("*.json")):
        content = json.loads(path.read_text())
        if not isinstance(content, dict):
            continue  # one benchmark run by itself
        found = content["machine"]
        parts.append(
            f"\n## {found['cpu']}, {found['cores']} cores, {found['memory_gib']} GiB,"
            f" {found['device']}\n"
        )
        for name, result in sorted(content["results"].items()):
            parts.append(_section(name, result))
    TABLE.write_text("".join(parts))


def _section(name: str, result: dict[str, Any]) -> str:
    versions = ", ".join(f"{k} {v}" for k, v in sorted(result["versions"].items()))
    entries = result["entries"]
    columns = [key for key in _ordered_keys(entries) if _is_shown(entries, key)]
    lines = [
        f"\n### {name}\n\n{result['question']}. Commit {result['commit']}; {versions}.\n",
        "| " + " | ".join(column.replace("_", " ") for column in columns) + " |",
        "| " + " | ".join("---" for _ in columns) + " |",
    ]
    lines += [
        "| " + " | ".join(_cell(entry.get(column)) for column in columns) + " |"
        for entry in entries
    ]
    return "\n".join(lines) + "\n"


def _ordered_keys(entries: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(key for entry in entries for key in entry))


def _is_shown(entries: list[dict[str, Any]], key: str) -> bool:
    """Numbers, words and short lists of them; longer evidence stays in the JSON file."""
    return all(
        not isinstance(entry.get(key), dict)
        and not (isinstance(entry.get(key), list) and len(entry[key]) > 3)
        for entry in entries
    )


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return " x ".join(str(item) for item in value)
    return str(value).replace("|", "\\|")


if __name__ == "__main__":
    main()
