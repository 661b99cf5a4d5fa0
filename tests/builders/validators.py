"""Other people's checkers for DICOM objects: what they call an error.

The tools are Debian packages that `make test` installs; a test that lacks one fails and names its
package.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

PIXELMED = Path("/usr/share/java/pixelmed.jar")
_PIXELMED_OPTIONS = (
    "-Djdk.xml.xpathExprGrpLimit=0",  # Java 17 refuses its long XPath expressions otherwise
    "-Djdk.xml.xpathExprOpLimit=0",
    "-Djdk.xml.xpathTotalOpLimit=0",
    "-XX:TieredStopAtLevel=1",  # one short run: compile little
    "-XX:+UseSerialGC",
)


def dciodvfy(path: Path) -> list[str]:
    """Errors against the object's IOD (package dicom3tools)."""
    return _lines(["dciodvfy", "-new", str(path)], "dicom3tools", "Error")


def dcentvfy(paths: Iterable[Path]) -> list[str]:
    """What instances of one patient and study disagree about (package dicom3tools).

    Left out, because the standard has it so: a type 2 attribute that the source lacks is there and
    empty in the result, and AccessionNumber, which its dictionary puts into two entities.
    """
    command = ["dcentvfy", *(str(path) for path in paths)]
    return [
        line
        for line in _lines(command, "dicom3tools", "")
        if not re.search(r"<AccessionNumber> IE <(Study|Series)> versus <(Study|Series)>", line)
        and not ("one instance" in line and any(f"<{name}>" in line for name in _TYPE_2))
    ]


_TYPE_2 = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
)


def pixelmed_sr(path: Path) -> list[str]:
    """Errors of PixelMed's validator of SR templates, which IHE uses for AI results.

    Its exit status is always 0, and a run takes 4 s and more of a core: choose. Package
    libpixelmed-java.
    """
    if not PIXELMED.is_file():
        pytest.fail(f"{PIXELMED} is missing: install the Debian package libpixelmed-java")
    program = ["-cp", str(PIXELMED), "com.pixelmed.validate.DicomSRValidator", str(path)]
    command = ["java", *_PIXELMED_OPTIONS, *program]
    output = _run(command, "default-jre-headless")
    assert "IOD validation complete" in output, f"the validator did not finish:\n{output[-2000:]}"
    return [line for line in output.splitlines() if line.startswith("Error")]


def dcmpschk(path: Path) -> list[str]:
    """Errors of dcmtk's checker of presentation states (package dcmtk)."""
    return [line for line in _lines(["dcmpschk", str(path)], "dcmtk", "") if "Error" in line]


def _lines(command: list[str], package: str, start: str) -> list[str]:
    output = _run(command, package).splitlines()
    return [line for line in output if line.strip() and line.startswith(start)]


def _run(command: list[str], package: str) -> str:
    if shutil.which(command[0]) is None:
        pytest.fail(f"{command[0]} is missing: install the Debian package {package}")
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    return done.stdout + done.stderr
