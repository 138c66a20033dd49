"""Faults of storage that pass: a disk that is full, a file server that does not answer for now."""

import errno

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Nothing can be written until somebody makes room."""
PASSING = FULL | {
    errno.EIO,
    errno.ETIMEDOUT,
    errno.ESTALE,
    errno.EAGAIN,
    errno.EINTR,
    errno.ENOLINK,
    errno.ENOTCONN,
    errno.ECONNRESET,
    errno.ECONNABORTED,
    errno.EREMOTEIO,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.ENETRESET,
    errno.ENOBUFS,
    errno.ENFILE,
    errno.ENOMEM,
}
"""What a file system answers that may answer otherwise in a minute; what is not there, is not
allowed, or cannot be written at all is none of it."""


def is_passing(error: BaseException) -> bool:
    """Return whether what failed may work when it is tried again, with nothing else changed."""
    return isinstance(error, OSError) and error.errno in PASSING


def is_unread(error: BaseException) -> bool:
    """Return whether a file could not be read, which says nothing of what is in it."""
    return is_passing(error) or isinstance(error, PermissionError)


def naming(error: OSError, name: object) -> OSError:
    """Return an error that names its file, which one about an open file does not."""
    if error.errno is None or error.filename is not None:
        return error
    return OSError(error.errno, error.strerror, str(name))
