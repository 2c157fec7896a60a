"""What kind of thing a question asks for, and whether a sentence holds one. Pure; English.

A hint among other evidence: a wrong guess costs little, so a few patterns are enough.
"""

import re
from collections.abc import Set
from typing import Literal

from rag.words import words

Kind = Literal["date", "number", "name", "reason"]


def _pattern(*alternatives: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{'|'.join(alternatives)})\b", re.IGNORECASE)


_ASKS: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    ("date", _pattern("when", "(?:what|which) (?:year|date|day|month|decade|century)", "how long ago")),
    (
        "number",
        _pattern(
            "how (?:many|much|long|old|far|tall|large|big|high|often|fast|deep|wide|heavy)",
            r"what (?:percent\w*|number|amount|age|population|proportion|fraction)",
        ),
    ),
    (
        "name",
        _pattern(
            "who|whom|whose|where",
            "(?:what|which) (?:person|king|queen|president|author|scientist|company|team)",
            "(?:what|which) (?:city|country|state|place|region|town|river|continent|location)",
        ),
    ),
    ("reason", _pattern("why", "what (?:caused|causes|is the reason|reason)", "for what reason")),
)

_MONTHS = "january|february|march|april|may|june|july|august|september|october|november|december"
_DATE = _pattern(r"1\d{3}s?|20\d{2}s?", _MONTHS, "century", r"\d{1,9}\s(?:years?|months?|weeks?|days?)", "bc|ad|bce")
_NUMBER = re.compile(
    r"\d|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|dozens?|hundreds?|thousands?|millions?"
    r"|billions?|half|percent|twice|third|quarter)\b",
    re.IGNORECASE,
)
_REASON = _pattern(
    "because|since|therefore|thus|reason|caused|results?|resulted|owing",
    "due to|so that|as a result|in order to|led to",
)
_CAPITALISED = re.compile(r"(?<!^)(?<![.!?]\s)\b[A-Z][\w’'-]+")  # not the sentence's first word
_NAME_FIRST = re.compile(r"[A-Z]\w+ [A-Z]")


def asked_for(question: str) -> Kind | None:
    """The kind of thing that would answer the question; None when its words do not tell."""
    return next((kind for kind, pattern in _ASKS if pattern.search(question)), None)


def holds(kind: Kind, sentence: str, known: Set[str]) -> bool:
    """Whether the sentence has something of that kind; names made of the stems in `known` are not news."""
    match kind:
        case "date":
            return _DATE.search(sentence) is not None
        case "number":
            return _NUMBER.search(sentence) is not None
        case "reason":
            return _REASON.search(sentence) is not None
        case "name":
            names = " ".join(_CAPITALISED.findall(sentence))
            return _NAME_FIRST.match(sentence) is not None or any(word.stem not in known for word in words(names))
