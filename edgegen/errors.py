"""The one error tree. Each class carries the exit code of the command and the HTTP status of the server.

    EdgegenError                 1   500
    +-- UsageError               2   400   the call is wrong: unknown task, language, option
    |   +-- OptionError          2   400   an option is out of its range
    |       +-- RoomError        2   400   so many texts of that length do not fit the cache
    |       +-- GrammarError     2   400   a grammar cannot be read, or takes too long to follow
    +-- DataError                3   422   the data is wrong: broken line, wrong type, empty catalogue
    |   +-- MappingError         3   422   a catalogue column cannot be mapped to a fact
    +-- NotFoundError            4   404   a file, product or pack is not there
    +-- PackError                5   503   a pack is damaged, unknown or cannot be loaded
    |   +-- SignatureError       5   503   a pack is signed by nobody who is trusted, wrongly, or not at all
    +-- EngineError              6   503   the native engine failed
    |   +-- PromptTooLongError   6   413   the prompt does not fit the context
    |   +-- GpuMemoryError       6   503   the GPU has no memory left
    |   +-- BusyError            6   429   the queue is full
    |   +-- UnavailableError     6   503   the engine's process died or is starting
    +-- StorageError             7   507   no space left, or the target cannot be written
    +-- MissingExtraError        8   501   an optional part is not installed
    +-- ConvertError             9   422   a checkpoint that cannot be converted faithfully

A message says what happened, to what, and what to do next. Nothing matches on its text.
"""

from collections.abc import Iterator
from contextlib import contextmanager


class EdgegenError(Exception):
    """Base of every error that edgegen raises on purpose."""

    exit_code = 1
    http_status = 500

    def __init__(self, message: str = "", field: str | None = None, lacks: str | None = None) -> None:
        """What happened. `field` names the part of the call that is wrong, `lacks` what it should have had.

        How either is given, each front end says in its own words.
        """
        super().__init__(message)
        self.field, self.lacks = field, lacks


class UsageError(EdgegenError):
    """The call is wrong: an unknown task, language or option."""

    exit_code = 2
    http_status = 400


class OptionError(UsageError):
    """An option is out of its range."""


class RoomError(OptionError):
    """So many texts of that length do not fit the engine's cache together."""


class GrammarError(OptionError):
    """A grammar cannot be read, or takes too long to follow."""


class DataError(EdgegenError):
    """Data is wrong: a broken line, a fact of the wrong type, an empty catalogue."""

    exit_code = 3
    http_status = 422


class MappingError(DataError):
    """A catalogue column cannot be mapped to a fact."""


class NotFoundError(EdgegenError):
    """A file, product or pack is not there."""

    exit_code = 4
    http_status = 404


class PackError(EdgegenError):
    """A pack is damaged, unknown or cannot be loaded."""

    exit_code = 5
    http_status = 503


class SignatureError(PackError):
    """A pack is signed by nobody who is trusted, its signature is wrong, or there is none where one is needed."""


class EngineError(EdgegenError):
    """The native engine failed."""

    exit_code = 6
    http_status = 503


class PromptTooLongError(EngineError):
    """The prompt does not fit the context."""

    http_status = 413


class GpuMemoryError(EngineError):
    """The GPU had no memory left in the middle of the work: the model has to be loaded again with fewer layers there."""


class BusyError(EngineError):
    """The queue is full; try again later."""

    http_status = 429


class UnavailableError(EngineError):
    """The engine's process died or is starting, or there is no model at all; try again later."""

    def __init__(self, message: str = "", field: str | None = None, lacks: str | None = None, *, retry_s: float = 1.0) -> None:
        """`retry_s` is in how many seconds it may be there."""
        super().__init__(message, field, lacks)
        self.retry_s = retry_s


class StorageError(EdgegenError):
    """No space left, or the target cannot be written."""

    exit_code = 7
    http_status = 507


class MissingExtraError(EdgegenError):
    """An optional part of edgegen is not installed."""

    exit_code = 8
    http_status = 501


@contextmanager
def extra(what: str, name: str = "train") -> Iterator[None]:
    """Around the imports of `what`: raises MissingExtraError with what to install where one of them is not there."""
    try:
        yield
    except ImportError as error:
        raise MissingExtraError(
            f"{what} needs the package {error.name}. Install it: pip install 'edgegen[{name}]'."
        ) from error


class ConvertError(EdgegenError):
    """A checkpoint that cannot be converted faithfully."""

    exit_code = 9
    http_status = 422
