"""Write docs/openapi.json from the code: `make openapi`."""

import json
from pathlib import Path

from tests.support.openapi import load_document

COPY = Path(__file__).parents[2] / "docs" / "openapi.json"


def render() -> str:
    """Return the text of docs/openapi.json."""
    return json.dumps(load_document(), indent=1, sort_keys=False, ensure_ascii=False) + "\n"


def main() -> None:
    """Write docs/openapi.json."""
    COPY.write_text(render(), encoding="utf-8")
    print(f"wrote {COPY}")


if __name__ == "__main__":
    main()
