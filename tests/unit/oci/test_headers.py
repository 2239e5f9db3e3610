"""Parsing of WWW-Authenticate and Link headers."""

import time
from contextlib import suppress

import pytest

from harborguard.errors import RegistryError
from harborguard.oci.headers import Challenge, find_next_link, parse_challenges

BEARER = Challenge("bearer", {"realm": "https://a/t?x=1,2", "service": "s"})


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], []),
        ([""], []),
        ([" , ,"], []),
        (["Basic"], [Challenge("basic", {})]),
        (['BASIC Realm="b"'], [Challenge("basic", {"realm": "b"})]),
        (["Basic realm=b c"], [Challenge("basic", {"realm": "b"}), Challenge("c", {})]),
        (["Basic realm="], [Challenge("basic", {"realm": ""})]),
        (['Basic realm="", realm="2"'], [Challenge("basic", {"realm": ""})]),
        ([r'Basic realm="a\"b\\"'], [Challenge("basic", {"realm": 'a"b\\'})]),
        (['Bearer realm="https://a/t?x=1,2",service=s'], [BEARER]),
        (['Bearer  realm = "https://a/t?x=1,2"  service= s'], [BEARER]),
        (
            ['Negotiate aGk=, Basic, Bearer realm="https://a/t?x=1,2",service="s"'],
            [Challenge("negotiate", {"agk": ""}), Challenge("basic", {}), BEARER],
        ),
        (
            ['Digest realm="Basic realm=x, Bearer y", qop="a,b"', "Basic"],
            [
                Challenge("digest", {"realm": "Basic realm=x, Bearer y", "qop": "a,b"}),
                Challenge("basic", {}),
            ],
        ),
        (
            ['Basic realm="open', 'Bearer realm="https://a/t?x=1,2",service="s"'],
            [Challenge("basic", {"realm": "open"}), BEARER],
        ),
        (['realm="x", "Bearer y", =,Basic'], [Challenge("basic", {})]),
    ],
)
def test_parse_challenges_returns_schemes_and_parameters_in_order(
    lines: list[str], expected: list[Challenge]
) -> None:
    assert parse_challenges(lines) == expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], None),
        (["", " , "], None),
        (['</a?b=1,2;c>; rel="next"'], "/a?b=1,2;c"),
        (["</a>;rel=next"], "/a"),
        (["</a>; REL=Next"], "/a"),
        (["</a> ; rel = next ;"], "/a"),
        (['</a>;;title="a, <b>; rel=x";rel="next"'], "/a"),
        ([r'</a>; title="\""; rel="next"'], "/a"),
        (['</a>; rel="prev NEXT last"'], "/a"),
        (['<p>; rel="prev", </a>; rel="next", <l>; rel=last'], "/a"),
        (['</a>; rel="next"', '</b>; rel="first"'], "/a"),
        (['</b>; rel="first"', '</a>; rel="next"'], "/a"),
        (['</a>; rel="next"', '</a>; rel="next"'], "/a"),
        (['</a>; rel="first"; rel="next"'], None),
        (['</a>; rel="nextpage"', "</b>; rel=x; title=next"], None),
        (["< /a\r\n ?b >; rel=next"], "/a?b"),
        (["<>; rel=next"], ""),
    ],
)
def test_find_next_link_reads_every_legal_form(lines: list[str], expected: str | None) -> None:
    assert find_next_link(lines) == expected


@pytest.mark.parametrize(
    "line",
    [
        "/a; rel=next",
        "</a; rel=next",
        "</a>",
        "</a>; title=x",
        '</a>; rel="next',
        "</a> rel=next",
        "</a>; rel=next x",
        "</p>; rel=prev </a>; rel=next",
        "<<host>/a>; rel=next",
        "next: /a",
        '</b>; rel="prev", /a',
        '</a>; rel="next", </b>; rel="next"',
    ],
)
def test_find_next_link_of_a_malformed_header_fails(line: str) -> None:
    with pytest.raises(RegistryError, match=r"malformed Link header|two different next pages"):
        find_next_link([line])


@pytest.mark.parametrize(
    "part",
    [" ", ",", ";", "=", '"', "\\", "<", "a", "a=", 'a="', "a ", "<a>;", "<a>; ;a=", "</a>;rel=b,"],
)
@pytest.mark.parametrize("start", ["", "<a>", '<a>;b="', "Basic ", 'Basic a="'])
def test_hostile_header_is_parsed_in_linear_time(start: str, part: str) -> None:
    line = start + part * (64_000 // len(part)) + "\x00"
    began = time.process_time()
    parse_challenges([line])
    with suppress(RegistryError):
        find_next_link([line])
    assert time.process_time() - began < 2
