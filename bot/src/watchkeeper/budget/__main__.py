"""``python -m watchkeeper.budget SOCKET``: the unit rate-budget.service."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from watchkeeper.budget.service import run

if len(sys.argv) != 2:
    sys.exit("usage: python -m watchkeeper.budget SOCKET")
asyncio.run(run(Path(sys.argv[1])))
