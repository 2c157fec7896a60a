"""From what a person typed to what is searched: a question that stands alone, and the questions within it."""

import logging
from collections.abc import Sequence

from rag import prompts, retrieval
from rag.account import Account
from rag.domain import TextDelta, Turn
from rag.errors import ProviderError
from rag.interfaces import ChatModel
from rag.models import Models
from rag.stopping import Stop

logger = logging.getLogger(__name__)

_LONGEST_QUERY = 1_000
_MOST_PARTS = 3


def queries(question: str, history: Sequence[Turn], models: Models, account: Account, stop: Stop) -> tuple[str, ...]:
    """What to search for: first the whole question, standing alone, then the questions it is made of, if several.

    A model that fails costs its help, not the answer: a follow-up is then completed by rule. Raises Stopped.
    """
    by_rule = retrieval.standalone(question, history)
    if models.chat is None or not (history or models.splits_questions):
        return (by_rule,)
    found: tuple[str, ...] = ()
    try:
        if models.splits_questions:
            found = _parts(models.chat, question, history, account, stop)
        else:
            found = (_rewritten(models.chat, question, history, account, stop),)
    except ProviderError as error:
        logger.warning("A question was completed by rule: %s", type(error).__name__)
    account.step("rewriting", len(found) if models.splits_questions else 0)
    whole = found[0] if found and 0 < len(found[0]) <= _LONGEST_QUERY else by_rule
    return (whole, *(part for part in found[1:] if part.casefold() != whole.casefold()))


def _rewritten(chat: ChatModel, question: str, history: Sequence[Turn], account: Account, stop: Stop) -> str:
    rewritten = ""
    for event in chat.stream(prompts.standalone(question, history), account.errand("rewriting", stop)):
        if isinstance(event, TextDelta) and len(rewritten) <= _LONGEST_QUERY:
            rewritten += event.text
    return " ".join(rewritten.split())


def _parts(chat: ChatModel, question: str, history: Sequence[Turn], account: Account, stop: Stop) -> tuple[str, ...]:
    """The standalone question and its parts, as far as the model filled the form usably."""
    filled = chat.fill(prompts.split(question, history), prompts.SPLIT, account.errand("rewriting", stop))
    whole, parts = filled.get("question"), filled.get("parts")
    texts = [whole if history and isinstance(whole, str) else retrieval.standalone(question, history)]
    texts += [part for part in parts if isinstance(part, str)] if isinstance(parts, list) else []
    lines = [" ".join(text.split()) for text in texts]
    usable = [line for line in lines[1:] if 0 < len(line) <= _LONGEST_QUERY]
    return (lines[0], *(dict.fromkeys(usable[:_MOST_PARTS]) if len(usable) > 1 else ()))
