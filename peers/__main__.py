"""``make test-peers``: the peers' tests, sealed. Arguments go to pytest."""

from __future__ import annotations

import sys
from pathlib import Path

from peers import environment, sealed

_HERE = Path(__file__).resolve().parent


def main() -> int:
    """pytest's exit code; 2 if a peer is not installed or this machine gives no namespaces."""
    pytest = [sys.executable, "-m", "pytest", str(_HERE), "-p", "no:cacheprovider"]
    # What a peer left behind is of use after a failure only.
    pytest += ["-o", "tmp_path_retention_policy=failed"]
    try:
        for name in environment.NAMES:
            environment.python_of(name)
        sealed.run([*pytest, *sys.argv[1:]])
    except (environment.NotInstalled, sealed.CannotSeal) as error:
        print(f"test-peers: {error}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
