"""How a training ends before its last epoch, other than by being stopped."""


class Diverged(ArithmeticError):
    """A loss or gradient is not finite; the message names the step and the term."""


class Replaced(RuntimeError):
    """Another process trains in this run folder since; this one has stopped writing there."""


class OutOfMemory(MemoryError):
    """One image does not fit on the device."""
