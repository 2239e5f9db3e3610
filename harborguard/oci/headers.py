"""Response headers that are lists: WWW-Authenticate and Link.

A list may be spread over several lines (RFC 9110, 5.3). Each line is parsed by itself, so that a
malformed line does not affect the others. No pattern backtracks, so parsing takes linear time.
"""

import re
from typing import NamedTuple

from harborguard.errors import RegistryError

_QUOTED = r'"((?:[^"\\]|\\.)*+)'
# A scheme, or a parameter with its value; or a quoted text without a name, which is skipped.
_CHALLENGE_PART = re.compile(
    rf'([^\s=,"]++)(?:\s*+(=)\s*+(?:{_QUOTED}"?|([^\s",]*+)))?+|{_QUOTED}"?', re.DOTALL
)
_LINK_TARGET = re.compile(r"[\s,]*+<([^<>]*+)>")
_LINK_PARAMETER = re.compile(
    rf'\s*+;\s*+(?:([^\s=,;"<>]++)(?:\s*+=\s*+(?:{_QUOTED}"|([^\s",;<>]*+)))?+)?+', re.DOTALL
)
_LINK_END = re.compile(r"\s*+(?:,|\Z)")
_BLANK = re.compile(r"[\s,]*+\Z")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


class Challenge(NamedTuple):
    """A way to authenticate: a scheme and its parameters, with names in lower case."""

    scheme: str
    parameters: dict[str, str]


def parse_challenges(lines: list[str]) -> list[Challenge]:
    """Return the challenges of WWW-Authenticate lines (RFC 9110, 11.6.1), in their order.

    The reading is lenient: parameters may be missing or separated by spaces, and schemes may be
    unknown. What cannot be read is skipped.
    """
    challenges: list[Challenge] = []
    for line in lines:
        current: Challenge | None = None
        for name, equals, quoted, plain, _ in _CHALLENGE_PART.findall(line):
            if name and not equals:
                current = Challenge(name.lower(), {})
                challenges.append(current)
            elif name and current:
                current.parameters.setdefault(name.lower(), _unescape(quoted) or plain)
    return challenges


def find_next_link(lines: list[str]) -> str | None:
    """Return the target of the link to the next page in Link lines (RFC 8288, 3), or None.

    Raise RegistryError if a link is malformed, or if there are two next pages: the list would end
    too early without an error.
    """
    targets = {
        "".join(target.split())
        for line in lines
        for target, relation in _parse_links(line)
        if "next" in relation.lower().split()
    }
    if len(targets) > 1:
        raise RegistryError("the registry refers to two different next pages")
    return next(iter(targets), None)


def _parse_links(line: str) -> list[tuple[str, str]]:
    """Return target and relation of each link of a Link line."""
    links: list[tuple[str, str]] = []
    position = 0
    while not _BLANK.match(line, position):
        target = _LINK_TARGET.match(line, position)
        relation: str | None = None
        if target:
            position = target.end()
            while parameter := _LINK_PARAMETER.match(line, position):
                position = parameter.end()
                name, quoted, plain = parameter.groups(default="")
                if name.lower() == "rel" and relation is None:  # RFC 8288: only the first counts
                    relation = _unescape(quoted) or plain
        end = _LINK_END.match(line, position)
        if not target or not end or relation is None:
            raise RegistryError("the registry sent a malformed Link header")
        position = end.end()
        links.append((target[1], relation))
    return links


def _unescape(quoted: str) -> str:
    return _ESCAPE.sub(r"\1", quoted)
