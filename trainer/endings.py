"""How a training ends before its last epoch, other than by being stopped."""


class Diverged(ArithmeticError):
    """A loss or gradient is not finite; the message names the step and the term."""


class OutOfMemory(MemoryError):
    """One image does not fit on the device."""
