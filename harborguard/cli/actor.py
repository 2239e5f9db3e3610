"""The actor that the audit log names for a command."""

import os
import pwd

from harborguard.config import Config
from harborguard.model import Actor

_MAX_LOGIN = 100  # characters


def command_actor() -> Actor:
    """Return the actor `cli:USER`, where USER is the login name of the person at the terminal.

    That is the caller of sudo, or else the user of the process, whatever LOGNAME is. It is the
    user's number if no name is known. Characters that are not printable are left out.
    """
    login = Config.from_env().sudo_user or _find_login()
    printable = "".join(character for character in login if character.isprintable())
    return Actor(f"cli:{printable[:_MAX_LOGIN] or os.getuid()}")


def _find_login() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return ""
