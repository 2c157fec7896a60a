"""What embedding models call a question and a passage. Pure.

Models trained with different instructions for the two find less when they are not told which it is; a model that does
not know `input_type` may refuse it, so nothing is sent to models that are not listed.
"""

import re
from typing import Literal

_BY_FAMILY = [
    # Cohere, "Embed API": required from Embed v3 on.
    (re.compile(r"\bcohere/embed-"), {"query": "search_query", "document": "search_document"}),
    # Voyage AI, "Text embeddings": recommended for retrieval; it prepends an instruction.
    (re.compile(r"\bvoyage-"), {"query": "query", "document": "document"}),
    # NVIDIA, "NeMo Retriever Embedding NIM, passage and query modes": required, "large drops in accuracy" otherwise.
    (re.compile(r"\bnvidia/.*embed"), {"query": "query", "document": "passage"}),
]


def input_type(model: str, purpose: Literal["query", "document"]) -> str | None:
    """What to send as `input_type`, None for models that are not known to have one."""
    for family, names in _BY_FAMILY:
        if family.search(model.lower()):
            return names[purpose]
    return None
