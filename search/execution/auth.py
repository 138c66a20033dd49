"""The token without which a Ray cluster that segtune starts does nothing for anybody.

Ray looks for it in RAY_AUTH_TOKEN, then in the file that RAY_AUTH_TOKEN_PATH names, then in
~/.ray/auth_token. `python -m search.execution.auth` makes sure that it is there, for shell scripts
that start Ray; copy that file to each host of a cluster. It is never printed.

Ray reads the mode when it is imported, so `use_token` comes before. This module imports no Ray.
"""

import errno
import os
import secrets
import sys
from pathlib import Path
from typing import Any

from trainer.configfile import ConfigError

MODE = "RAY_AUTH_MODE"

STAY_ON_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""0 lets Ray take loopback addresses as they are, and listen there alone. Else it puts this
machine's own in their place, where a head that cluster/local.sh started does not listen, and a Ray
that serves only this machine listens on all."""

PATIENCE_S = 20.0
"""How long a cluster that does not answer is waited for, as Ray itself does."""


def use_token(address: str) -> None:
    """Make Ray use its token where it should; call it before Ray is imported.

    A Ray that is started on this machine has token authentication unless RAY_AUTH_MODE says
    otherwise. Of a running cluster it is found out whether it asks for a token: one that does not
    is not shown it.

    Args:
        address: "local" or a cluster's host:port.

    Raises:
        ConfigError: The cluster does not answer, or asks for a token that is missing or wrong.
        OSError: The token cannot be written or read.
    """
    mode = os.environ.get(MODE, "").lower()
    if address == "local":
        os.environ.setdefault(STAY_ON_LOOPBACK, "0")
        if mode in ("", "token"):
            os.environ[MODE] = "token"
            _have_token()
        return
    if address.startswith(("127.", "localhost:")):
        os.environ.setdefault(STAY_ON_LOOPBACK, "0")
    if _accepts(address, None):
        if mode == "token" and find_token() is None:
            raise ConfigError([f"{MODE} is token, but there is none in {token_path()}"])
        return
    where = f"--address {address}: the cluster asks for Ray's token, but"
    if mode not in ("", "token"):
        raise ConfigError([f"{where} {MODE} is {mode} here; unset it"])
    token = find_token()
    if token is None:
        raise ConfigError([f"{where} there is none here; copy the head's to {token_path()}"])
    if not _accepts(address, token):
        raise ConfigError([f"{where} {_source()} is another one; copy the head's"])
    os.environ[MODE] = "token"
    say_token()


def _have_token() -> None:
    """Make sure that there is a token for a Ray of this command's own, if need be for it alone.

    Raises:
        OSError: The file that RAY_AUTH_TOKEN_PATH names cannot be written or read.
    """
    try:
        say_token()
    except OSError as error:
        if os.environ.get("RAY_AUTH_TOKEN_PATH"):
            raise
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
        why = f"{error.filename}: {error.strerror}"
        print(f"note: {why}: Ray has a token for this command alone", file=sys.stderr, flush=True)


def say_token() -> None:
    """Make sure that the token is there and nobody else's, and say on stderr what was done."""
    if line := ensure_token():
        print(line, file=sys.stderr, flush=True)


def _accepts(cluster: str, token: str | None) -> bool:
    """Ask a cluster's head for its id, which it gives to everybody or to holders of the token.

    Ray itself, with a wrong token, tries for 20 s and then says that it found no cluster.

    Raises:
        ConfigError: Nothing there speaks Ray's protocol.
    """
    import grpc

    options = [("grpc.enable_http_proxy", 0)]  # as Ray
    if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
        channel = grpc.secure_channel(cluster, _certificates(grpc), options)
    else:
        channel = grpc.insecure_channel(cluster, options)
    ask: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
        "/ray.rpc.NodeInfoGcsService/GetClusterId"
    )
    header = (("authorization", f"Bearer {token}"),) if token else None
    try:
        ask(b"", timeout=PATIENCE_S, metadata=header, wait_for_ready=True)
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.UNAUTHENTICATED:
            return False
        raise no_answer(cluster) from error
    finally:
        channel.close()
    return True


def no_answer(address: str) -> ConfigError:
    """Return the error of a cluster that does not answer, by what named it."""
    if os.environ.get("RAY_ADDRESS") == address:
        rule = "no Ray cluster answers there; unset RAY_ADDRESS to start Ray on this machine"
        return ConfigError([f"RAY_ADDRESS {address}: {rule}"])
    return ConfigError([f"--address {address}: no Ray cluster answers there"])


def _certificates(grpc: Any) -> Any:
    names = ("RAY_TLS_CA_CERT", "RAY_TLS_SERVER_KEY", "RAY_TLS_SERVER_CERT")
    return grpc.ssl_channel_credentials(*(Path(os.environ[name]).read_bytes() for name in names))


def _source() -> str:
    return "RAY_AUTH_TOKEN" if os.environ.get("RAY_AUTH_TOKEN", "").strip() else str(token_path())


def token_path() -> Path:
    """Return the file in which Ray looks for the token, if RAY_AUTH_TOKEN does not hold it.

    Raises:
        FileNotFoundError: This user has no home folder.
    """
    if given := os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return Path(given)
    try:
        return Path.home() / ".ray" / "auth_token"
    except RuntimeError as error:
        raise FileNotFoundError(errno.ENOENT, "no home folder: set HOME", "~") from error


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
        os.link(unfinished, path)
    except FileExistsError:
        if find_token():
            return ""
        unfinished.replace(path)  # empty, which is no token to Ray
    finally:
        unfinished.unlink(missing_ok=True)
    return f"{path}: created the token of your Ray clusters"


def main() -> None:
    """Make sure that there is a token, for scripts."""
    try:
        say_token()
    except OSError as error:
        sys.exit(f"{error.filename}: {error.strerror}")


if __name__ == "__main__":
    main()
