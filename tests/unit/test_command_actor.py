"""The name of a command's actor: the operating system's user, printable and bounded."""

import os
import pwd

import pytest

from harborguard.cli.actor import command_actor
from harborguard.model import Actor


@pytest.fixture(autouse=True)
def login(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run without sudo, in an environment that names another user."""
    monkeypatch.delenv("SUDO_USER", raising=False)
    monkeypatch.setenv("LOGNAME", "mallory")
    monkeypatch.setenv("USER", "mallory")


def test_actor_without_sudo_is_the_user_of_the_process() -> None:
    assert command_actor() == Actor(f"cli:{pwd.getpwuid(os.getuid()).pw_name}", None)


def test_actor_with_sudo_is_its_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "alice")
    assert command_actor() == Actor("cli:alice", None)


def test_empty_sudo_user_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "")
    assert command_actor().name == f"cli:{pwd.getpwuid(os.getuid()).pw_name}"


@pytest.mark.parametrize(
    ("login", "expected"),
    [
        ("al\x1b[31mice\n", "cli:al[31mice"),
        ("zoë", "cli:zoë"),
        ("a" * 300, f"cli:{'a' * 100}"),
        ("\x07", f"cli:{os.getuid()}"),
    ],
)
def test_name_has_at_most_100_printable_characters(
    monkeypatch: pytest.MonkeyPatch, login: str, expected: str
) -> None:
    monkeypatch.setenv("SUDO_USER", login)
    assert command_actor().name == expected


def test_user_without_a_name_is_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 2_000_000_123)
    assert command_actor().name == "cli:2000000123"


def test_undecodable_login_name_becomes_printable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that are not UTF-8 are surrogates in Python, which PostgreSQL cannot store."""
    monkeypatch.setenv("SUDO_USER", os.fsdecode(b"al\xffice"))
    assert command_actor().name == "cli:alice"
