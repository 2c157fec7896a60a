"""Wiring: the one place that builds things. Pages and routes call `get()`."""

import functools
import logging
import threading
from dataclasses import dataclass
from typing import Literal

from rag import local, recovery, retrieval
from rag.chat import Chat
from rag.chroma import ChromaIndex
from rag.conversations import Conversations
from rag.database import Database
from rag.errors import FootnoteError, NotReady
from rag.indexing import Indexer
from rag.interfaces import ChatModel, Embedder, Reranker
from rag.keywords import Keywords
from rag.library import Library
from rag.local.answer import LocalExtractor
from rag.local.embeddings import StaticEmbedder
from rag.local.rerank import LocalReranker
from rag.models import Models
from rag.openrouter.chat import OpenRouterChat
from rag.openrouter.client import Client
from rag.openrouter.embeddings import OpenRouterEmbedder
from rag.openrouter.rerank import OpenRouterReranker
from rag.originals import Originals
from rag.parsing.reader import Reader
from rag.passages import Passages
from rag.pictures import Pictures
from rag.pipeline import Pipeline
from rag.settings import Settings
from rag.stores import Stores
from rag.vectors import EmbeddingTable
