"""Errors that a user can meet; each says in its message what to do next.

RetuneError
├── SettingsError      a setting has a wrong value
├── DomainError        a domain folder holds a mistake (file, line, remedy)
├── ModelError         a base model cannot be fetched, verified or converted
│   └── Damaged        a file is not what its manifest says
├── BundleError        a bundle is missing, damaged or made for another base or prompt
├── DataError          rows that cannot be read or trained on
├── StoreError         the database cannot be opened or written
└── EngineError        the generator failed; never a negative example for training
    ├── Unreachable    no server answers
    ├── TooSlow        a deadline passed
    ├── Busy           the server takes no more, or fails by itself (429, 5xx)
    ├── Rejected       the server answers and says no: key, model, rank, length
    └── Garbled        what came is not what a vLLM server says, or was cut off
"""


class RetuneError(Exception):
    """Shown to the user as one sentence; the command exits with 1."""


class SettingsError(RetuneError):
    """A setting has a value that cannot be used."""


class DomainError(RetuneError):
    """A domain folder holds a mistake; the message names file, line and remedy."""


class ModelError(RetuneError):
    """A base model cannot be fetched, verified or converted."""


class Damaged(ModelError):
    """A file's sha256 is not the one that was promised."""


class BundleError(RetuneError):
    """A bundle is missing, damaged, or belongs to another base or prompt."""


class DataError(RetuneError):
    """Rows that cannot be read; the message names file and line."""


class StoreError(RetuneError):
    """The database cannot be opened, read or written."""

    again = False
    """Whether the same may do a moment later: the server was away, or two programs were in each other's way."""


class EngineError(RetuneError):
    """The generator failed while answering; the turn is logged as failed."""


class Unreachable(EngineError):
    """No server answers."""


class TooSlow(EngineError):
    """A deadline passed before the answer was whole."""


class Busy(EngineError):
    """The server takes no more for now, or failed by itself."""


class Rejected(EngineError):
    """The server says no, and would again: key, model, rank or length."""


class Garbled(EngineError):
    """What came is not what a vLLM server says, or it was cut off."""
