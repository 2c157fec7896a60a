"""Everything that can go wrong, as sentences for the person who can do something about it.

FootnoteError                    str(error) is safe to show and says what to do
├── InvalidRequest               a name, value or file that cannot be accepted as it is
│   ├── NotFound                 no such collection, document, conversation or message
│   └── FileTooLarge             larger than the upload limit
├── UnreadableDocument           this file cannot be indexed: empty, damaged, encrypted, unsupported or without text
├── ProviderError                a model's server did not do what was asked
│   ├── BadKey                   the key is missing, wrong, disabled or not allowed to do this
│   ├── OutOfCredit              the account or the key has no credit left
│   ├── RateLimited              too many requests; waiting helps
│   ├── ModelUnavailable         this model does not exist, or cannot be used for this or with these settings
│   ├── InputRejected            the request was refused as it is: too long, too large or against a policy
│   ├── ProviderDown             the server cannot be reached or fails; trying later helps
│   └── BadReply                 the server answered, but with something other than its contract says
├── OverBudget                   the month's budget is spent; raising it or the next month helps
├── WrongEmbeddingModel          the collection was indexed with another embedding model; re-indexing helps
├── LibraryLocked                another process uses the data folder
├── NotReady                     the server is starting or repairing its index; waiting helps
└── Stopped                      the person stopped it, or the server is closing
"""

import logging
import secrets
import traceback

from rag.domain import Failure


class FootnoteError(Exception):
    """Something the person can be told; `str(error)` is the sentence."""


class InvalidRequest(FootnoteError):
    """A name, value or file that cannot be accepted as it is."""


class NotFound(InvalidRequest):
    """No such collection, document, conversation or message."""


class FileTooLarge(InvalidRequest):
    """The file is larger than the upload limit."""


class UnreadableDocument(FootnoteError):
    """This file cannot be indexed: empty, damaged, encrypted, unsupported or without text."""


class ProviderError(FootnoteError):
    """A model's server did not do what was asked.

    `failure` is what stands behind the sentence, `status` its HTTP status (None without a reply), `retry_after` the
    seconds the server asks to wait.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        failure: Failure | None = None,
    ) -> None:
        super().__init__(message)
        self.failure = failure or Failure(status, "", "", "", "wait")
        self.status = self.failure.status
        self.retry_after = retry_after


class BadKey(ProviderError):
    """The key is missing, wrong, disabled or not allowed to do this."""


class OutOfCredit(ProviderError):
    """The account or the key has no credit left."""


class RateLimited(ProviderError):
    """Too many requests; waiting helps."""


class ModelUnavailable(ProviderError):
    """This model does not exist, or cannot be used for this or with these settings."""


class InputRejected(ProviderError):
    """The request was refused as it is: too long, too large or against a policy."""


class ProviderDown(ProviderError):
    """The server cannot be reached or fails; trying later helps."""


class BadReply(ProviderError):
    """The server answered, but with something other than its contract says."""


class OverBudget(FootnoteError):
    """The month's budget is spent; raising it or the next month helps."""


class WrongEmbeddingModel(FootnoteError):
    """The collection was indexed with another embedding model; re-indexing helps."""


class LibraryLocked(FootnoteError):
    """Another process uses the data folder."""


class NotReady(FootnoteError):
    """The server is starting or repairing its index; waiting helps."""


class Stopped(FootnoteError):
    """The person stopped it, or the server is closing."""


def incident(logger: logging.Logger, error: Exception, doing: str) -> str:
    """Log an unexpected error under a new id, and return the sentence that names it.

    Only its type and where it happened are logged: its own words may be a document's or a key.
    """
    reference = secrets.token_hex(4)
    frames = "".join(traceback.format_tb(error.__traceback__))
    logger.error("%s failed unexpectedly, incident %s: %s\n%s", doing, reference, type(error).__name__, frames)
    return f"Something unexpected went wrong. The server's log has it as {reference}."
