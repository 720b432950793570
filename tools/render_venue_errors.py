"""Write docs/venue-errors.md from the table that the bot acts by.

tools/render_venue_errors.py           write it
tools/render_venue_errors.py --check   write nothing; exit 1 when it is stale
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from watchkeeper.venue.error_table import as_markdown

PAGE = Path(__file__).resolve().parent.parent / "docs" / "venue-errors.md"


def main(arguments: Sequence[str], page: Path = PAGE) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when stale")
    text = as_markdown()
    if parser.parse_args(arguments).check:
        if page.exists() and page.read_text() == text:
            return 0
        print(f"{page} is stale: run tools/render_venue_errors.py", file=sys.stderr)
        return 1
    page.write_text(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
