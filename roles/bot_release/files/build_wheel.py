"""Build the bot's wheel on the controller and say what it is.

Usage: build_wheel.py SOURCE DESTINATION. Prints JSON: path, version, sha256. The same sources
give the same wheel, byte by byte, so its name can be the content's: a wheel that was built before
is found again and nothing changes.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

REPRODUCIBLE = {"SOURCE_DATE_EPOCH": "1580601600", "PYTHONHASHSEED": "0"}


def build(source: Path, destination: Path) -> dict[str, str]:
    """The wheel of ``source`` below ``destination``.

    Raises:
        SystemExit: the build failed; the builder's own words say why.
    """
    with tempfile.TemporaryDirectory(prefix="watchkeeper-wheel-") as scratch:
        # A copy: a build must not depend on, or leave, anything in the source tree.
        tree = Path(scratch, "source")
        shutil.copytree(
            source, tree, ignore=shutil.ignore_patterns("__pycache__", "*.pyc", "dist", ".*")
        )
        command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", scratch]
        done = subprocess.run(
            [*command, str(tree)],
            env=os.environ | REPRODUCIBLE,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(
                f"{source}: the wheel cannot be built with {sys.executable}:\n"
                f"{done.stdout[-2000:]}{done.stderr[-2000:]}\n"
                "Run Ansible from the project's environment: make bootstrap, then .venv/bin/..."
            )
        (wheel,) = Path(scratch).glob("*.whl")
        sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
        version = wheel.name.split("-")[1]
        target = destination / sha256[:8] / wheel.name
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_name(f".{os.getpid()}.part")
            shutil.copyfile(wheel, part)
            part.replace(target)
    return {"path": str(target), "version": version, "sha256": sha256}


if __name__ == "__main__":
    print(json.dumps(build(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())))
