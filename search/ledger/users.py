"""Whose hand it was: users by their name on this machine."""

import os
import pwd


def user_name(uid: int | None = None) -> str:
    """Return a user's name, by default of who runs this; a number where it has no name here."""
    uid = os.geteuid() if uid is None else uid
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
