"""Known vulnerabilities of what constraints.txt pins: `python -m tests.audit`, for `make lint`.

Asks https://osv.dev, from which pip-audit has its answers too, once for all packages, by name and
version alone. Where nobody answers in time it says so, and nothing is wrong.
"""

import json
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
URL = "https://api.osv.dev/v1/querybatch"
TIMEOUT_S = 20.0
ACCEPTED: dict[str, str] = {}
"""By OSV's id, why a finding does not concern segtune."""


def pins(text: str) -> list[tuple[str, str]]:
    """Return the names and versions of a constraints file; a build such as +cpu is left out."""
    lines = (line.partition("#")[0].partition(";")[0].strip() for line in text.splitlines())
    pinned = [line.partition("==") for line in lines if "==" in line]
    return [(name.strip(), version.strip().partition("+")[0]) for name, _, version in pinned]


def findings(pinned: Sequence[tuple[str, str]], url: str = URL) -> list[tuple[str, str]]:
    """Return package and id of every finding.

    Raises:
        OSError: Nobody answers in TIMEOUT_S.
        ValueError: The answer is none.
    """
    queries = [
        {"package": {"name": name, "ecosystem": "PyPI"}, "version": version}
        for name, version in pinned
    ]
    request = urllib.request.Request(
        url, json.dumps({"queries": queries}).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
        results = json.load(answer)["results"]
    if len(results) != len(pinned):
        raise ValueError(f"{len(results)} answers about {len(pinned)} packages")
    return [
        (f"{name} {version}", each["id"])
        for (name, version), result in zip(pinned, results, strict=True)
        for each in result.get("vulns", ())
    ]


def main(url: str = URL) -> int:
    """Print the findings, and return 1 where one is not ACCEPTED."""
    pinned = pins((ROOT / "constraints.txt").read_text(encoding="utf-8"))
    try:
        found = findings(pinned, url)
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"audit: skipped: {url}: {error}")
        return 0
    for package, name in found:
        why = ACCEPTED.get(name, "not looked at yet")
        print(f"audit: {package}: https://osv.dev/{name}: {why}")
    print(f"audit: {len(pinned)} packages, {len(found)} findings")
    return int(any(name not in ACCEPTED for _, name in found))


if __name__ == "__main__":
    sys.exit(main())
