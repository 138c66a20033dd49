"""The token without which a Ray cluster that segtune starts does nothing for anybody.

Ray looks for it in RAY_AUTH_TOKEN, then in the file that RAY_AUTH_TOKEN_PATH names, then in
~/.ray/auth_token. `python -m search.token` makes sure that it is there, for shell scripts that
start Ray; copy that file to each host of a cluster. It is never printed.

Ray reads the mode when it is imported, so `use_token` comes before. This module imports no Ray.
"""

import os
import secrets
import sys
from pathlib import Path


def token_path() -> Path:
    """Return the file in which Ray looks for the token, if RAY_AUTH_TOKEN does not hold it."""
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")


def find_token() -> str | None:
    """Return the token that Ray will find, None where there is none."""
    if token := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return token
    try:
        return token_path().read_text().strip() or None
    except FileNotFoundError:
        return None


def ensure_token() -> str:
    """Create the token unless there is one, and let nobody else read it.

    Returns:
        What was done, in one line; empty where all was well.

    Raises:
        OSError: It cannot be written or read.
    """
    if os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return ""
    path = token_path()
    if find_token() is None:
        return _create(path)
    mode = path.stat().st_mode & 0o777
    if not mode & 0o077:
        return ""
    try:
        path.chmod(0o600)
    except OSError as error:  # a mounted secret
        return f"{path}: others can read Ray's token (mode {mode:o}): {error.strerror}"
    return f"{path}: others could read Ray's token (mode {mode:o}); now only you can"


def _create(path: Path) -> str:
    """Create the token whole or not at all; of several processes one creates it for all."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    unfinished.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with os.fdopen(os.open(unfinished, flags, 0o600), "w") as file:
        file.write(secrets.token_hex(32))  # as `ray get-auth-token --generate`, without a newline
        file.flush()
        os.fsync(file.fileno())
    try:
        if path.exists():  # and empty, which is no token to Ray
            unfinished.replace(path)
        else:
            os.link(unfinished, path)
    except FileExistsError:
        return ""
    finally:
        unfinished.unlink(missing_ok=True)
    return f"{path}: created the token of your Ray clusters"


def main() -> None:
    """Make sure that there is a token, and say on stderr what was done."""
    try:
        line = ensure_token()
    except OSError as error:
        sys.exit(f"{error.filename}: {error.strerror}")
    if line:
        print(line, file=sys.stderr)


if __name__ == "__main__":
    main()
