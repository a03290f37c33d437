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


class EngineError(RetuneError):
    """The generator failed while answering; the turn is logged as failed."""
