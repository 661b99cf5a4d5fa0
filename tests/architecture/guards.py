"""Guards over the tracked files: no large file, no private key, no stray whitespace.

`python -m tests.architecture.guards` prints what is wrong and exits 1; the test suite calls
`problems` too.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

LARGEST_FILE_BYTES = 20 * 1024 * 1024
TEXT_SUFFIXES = {".py", ".md", ".toml", ".sh", ".html", ".css", ".js", ".pbtxt", ".yaml", ".json"}
KEY_HEADER = "-----BEGIN " + "PRIVATE KEY-----"


def tracked_files(root: Path) -> list[Path]:
    """Every file that git tracks or would add."""
    names = subprocess.run(
        ["git", "-C", str(root), "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [root / name for name in names.split("\0") if name and (root / name).is_file()]


def problems(root: Path) -> Iterator[str]:
    """Yield one line for each thing that must not be in the repository."""
    for path in tracked_files(root):
        name = path.relative_to(root)
        if path.stat().st_size > LARGEST_FILE_BYTES:
            yield f"{name}: larger than {LARGEST_FILE_BYTES} bytes"
            continue
        if path.suffix not in TEXT_SUFFIXES:
            continue
        text = path.read_text(encoding="utf-8")
        if KEY_HEADER in text:
            yield f"{name}: holds a private key"
        if text and not text.endswith("\n"):
            yield f"{name}: no newline at its end"
        for number, line in enumerate(text.splitlines(), 1):
            if line != line.rstrip():
                yield f"{name}:{number}: whitespace at the end of the line"


def main() -> int:
    """Print every problem; return the exit code."""
    found = list(problems(Path(__file__).resolve().parents[2]))
    for line in found:
        sys.stdout.write(line + "\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
