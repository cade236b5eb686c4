"""Writes deploy/constraints.txt: the exact version of everything the server needs at run time.

    python3.12 tools/make_constraints.py

Asks pip to resolve `.[server]` with the Python that runs this, without installing anything. Run it
with the Python of deploy/Dockerfile; what it pins is for that Python and newer ones.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "deploy" / "constraints.txt"
HEADER = """\
# Exact versions of what the server needs at run time, for `pip install -c`.
# Made by tools/make_constraints.py with Python {python} on {platform}; do not edit.
"""


def main() -> None:
    """Resolve and write."""
    pins = resolve()
    text = HEADER.format(python="{}.{}".format(*sys.version_info), platform=sys.platform)
    TARGET.write_text(text + "".join(f"{name}=={pins[name]}\n" for name in sorted(pins)))
    print(f"{TARGET.relative_to(ROOT)}: {len(pins)} pins")


def resolve() -> dict[str, str]:
    """Names, normalised, and versions of all that `.[server]` brings, without speckfarm."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run"]
        command += ["--ignore-installed", "--report", str(report), f"{ROOT}[server]"]
        subprocess.run(command, check=True)
        plan = json.loads(report.read_text())["install"]
    pins = {normalised(each["metadata"]["name"]): each["metadata"]["version"] for each in plan}
    del pins["speckfarm"]
    return pins


def normalised(name: str) -> str:
    """As package indexes compare names."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    main()
