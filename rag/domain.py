"""The nouns and the events. Frozen dataclasses that import nothing of ours.

Lists are tuples, a missing score is None, and every score keeps the name of the model that made it.
Identifiers are lower-case letters and digits only (citation links are split at "-").
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

# ---------------------------------------------------------------- what a team keeps

Status = Literal["queued", "working", "ready", "failed", "cancelled", "replaced", "deleting"]
Stage = Literal["waiting", "reading", "splitting", "embedding", "indexing"]
BlockKind = Literal["heading", "paragraph", "list", "table"]
MediaType = Literal["application/pdf", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"]

PDF: MediaType = "application/pdf"
DOCX: MediaType = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"


@dataclass(frozen=True, slots=True)
class Chunking:
    """How a collection's documents are split. Sizes are tokens of the local tokenizer (characters / 4 without it)."""

    size: int = 250
    overlap: int = 50


@dataclass(frozen=True, slots=True)
class Collection:
    """A set of documents asked together.

    `embedding_model` names the model whose vectors are indexed ("" when there are keywords only), `dimension` is
    None until the first vectors are known, `generation` counts the Chroma collections built for it so far and
    `reindexing_to` names the model that a re-indexing in progress moves to (None when there is none). With `figures`
    on, pictures of its documents are indexed beside their text.
    """

    id: str
    name: str
    chunking: Chunking
    embedding_model: str
    dimension: int | None
    generation: int
    reindexing_to: str | None
    created_at: datetime
    figures: bool = False

    @property
    def index(self) -> str:
        """The name of the vector index that answers now."""
        return self.index_of(self.generation)

    def index_of(self, generation: int) -> str:
        """The name of the vector index of one generation."""
        return f"c-{self.id}-g{generation}"


Remedy = Literal["key", "credit", "models", "routing", "server", "wait"]
"""Where the person can do something about a failure: a part of the settings, or patience."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What stands behind the sentence of a failed call: the HTTP status (None without a reply), who ran the model,
    the id by which the server knows the request, and its own words; "" where it did not say."""

    status: int | None
    provider: str
    request_id: str
    said: str
    remedy: Remedy


@dataclass(frozen=True, slots=True)
class Version:
    """One set of bytes of a document, and how far its indexing has come.

    `pages` is None where the format has no pages (DOCX) or they are not known yet. `done` of `total` counts the
    units of the present stage. `problem` is the sentence to show when it failed, `failure` what stands behind it where
    a models' server did.
    """

    id: str
    document_id: str
    number: int
    sha256: str
    media_type: MediaType
    size: int
    pages: int | None
    chunks: int
    status: Status
    stage: Stage
    done: int
    total: int
    problem: str | None
    warnings: tuple[str, ...]
    created_at: datetime
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """A file of a collection; it keeps its id for life. Questions see `current`, lists show `newest`."""

    id: str
    collection_id: str
    name: str
    current: Version | None
    newest: Version


# ---------------------------------------------------------------- what is read from a file


@dataclass(frozen=True, slots=True)
class Run:
    """`length` characters of a page's text from `start` on are the parser's characters from `source` on."""

    start: int
    source: int
    length: int


@dataclass(frozen=True, slots=True)
class Page:
    """The cleaned text of one page: blocks separated by a blank line, rows of a table by a line end.

    `number` counts from 1; a format without pages is one page. `label` is what the document prints ("iv", "A-3").
    `runs` maps the text back to pdfium's characters so that an offset becomes rectangles on the page; None where
    the text has no positions (second parser, DOCX).
    """

    number: int
    label: str
    text: str
    runs: tuple[Run, ...] | None


@dataclass(frozen=True, slots=True)
class Block:
    """A heading, paragraph, list item or table: `text` is exactly `pages[page].text[start:end]`.

    `headings` is the trail above it, outermost first (a heading's own text is not in its own trail); `level` is 1
    for the outermost heading and 0 for everything else. `header_end` is where a table's header row ends (offset in
    the page's text), 0 where there is none.
    """

    kind: BlockKind
    text: str
    page: int
    start: int
    end: int
    headings: tuple[str, ...]
    level: int = 0
    header_end: int = 0


@dataclass(frozen=True, slots=True)
class Image:
    """An encoded picture."""

    media_type: Literal["image/png", "image/jpeg"]
    data: bytes = field(repr=False)

    @property
    def key(self) -> str:
        """The name of its content: 32 hexadecimal characters."""
        return hashlib.blake2b(self.data, digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture in a document, or a whole page that has no text (`whole_page`).

    `caption` is what the document itself says beside it ("Figure 3: …", an alternative text), "" without.
    """

    page: int
    label: str
    whole_page: bool
    image: Image
    caption: str
    headings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Parsed:
    """What one file holds. `paged` is False for formats without pages (its text is then one page, number 1)."""

    pages: tuple[Page, ...]
    blocks: tuple[Block, ...]
    paged: bool
    warnings: tuple[str, ...]
    figures: tuple[Figure, ...] = ()


@dataclass(frozen=True, slots=True)
class Span:
    """Where a piece of a chunk stands: `page.text[start:end]` is `chunk.text[offset : offset + end - start]`."""

    offset: int
    page: int
    label: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """A passage that is found, ranked and cited as a whole.

    `text` is the passage alone; the document's name and the heading trail are joined to it for models by
    `prompts.passage`. `page_first` and `page_last` are None where the format has no pages. A chunk that is a picture
    has the key of its image as `figure`, its caption as `text` ("" without) and a span without length.
    """

    id: str
    document_id: str
    version_id: str
    ordinal: int
    text: str
    page_first: int | None
    page_last: int | None
    headings: tuple[str, ...]
    spans: tuple[Span, ...]
    figure: str | None = None


# ---------------------------------------------------------------- what a question finds


@dataclass(frozen=True, slots=True)
class TermStatistics:
    """Counts over a collection's chunks that weigh words: how many chunks, and in how many each stem occurs."""

    chunks: int
    frequencies: Mapping[str, int]

    def idf(self, stem: str) -> float:
        """What a word is worth: ln(1 + (N - n + 0.5) / (n + 0.5)), with n of N chunks having it (Robertson)."""
        having = self.frequencies.get(stem, 0)
        return math.log(1 + (max(self.chunks - having, 0) + 0.5) / (having + 0.5))


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk as a question found it. Ranks count from 1. Scores of different models never overwrite one another.

    `document` is the file's name at the time. `similarity` is the embedder's cosine (-1 to 1), `bm25` the keyword
    score divided by the best any passage could reach (0 to 1), `document_match` the share of the question that the
    document's name and first page hold (0 to 1), `fused` the weighted sum that orders candidates, `relevance` the
    reranker's score as it came (None when not reranked), `rank` the final place.
    """

    chunk: Chunk
    document: str
    vector_rank: int | None = None
    similarity: float | None = None
    keyword_rank: int | None = None
    bm25: float | None = None
    document_match: float | None = None
    fused: float | None = None
    fused_rank: int | None = None
    relevance: float | None = None
    rank: int | None = None


@dataclass(frozen=True, slots=True)
class Bands:
    """Cut points of one reranker's score: below `not_found` nothing is answered, below `confident` it is weak.

    `strong` and up is called strong. `fitted` is False where nobody has fitted them on data: then only the raw
    number is shown.
    """

    not_found: float | None
    confident: float | None
    strong: float | None
    fitted: bool


Support = Literal["quoted", "supported", "weak", "none", "picture"]
"""How a cited sentence carries its claim, word by word; "picture" where there is no text to compare with."""

Verdict = Literal["supported", "partly", "unsupported"]
"""What a model said when it was asked whether a citation holds."""


@dataclass(frozen=True, slots=True)
class Citation:
    """What [number] in an answer refers to: the sentence `chunk.text[start:end]` that supports the claim best.

    `missing` lists numbers and names of the claim that the cited sentence lacks. `verdict` is a model's own judgement
    of it, with its reason, where citations are checked by one.
    """

    number: int
    document: str
    chunk: Chunk
    start: int
    end: int
    relevance: float | None
    support: Support
    missing: tuple[str, ...] = ()
    verdict: Verdict | None = None
    verdict_reason: str = ""


@dataclass(frozen=True, slots=True)
class Dropped:
    """A candidate that was not used, at which step and why."""

    chunk_id: str
    step: Literal["threshold", "context"]
    reason: str


@dataclass(frozen=True, slots=True)
class Usage:
    """What calls to models took: tokens, search units of rerankers, cost in US dollars (None where unknown).

    `cached_tokens` are those of the prompt that were read from the provider's cache, `cache_write_tokens` those
    written to it, `reasoning_tokens` those of the completion that were thought rather than said. `estimated` is True
    where a figure was not reported but worked out from the length of texts or from list prices.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    search_units: int = 0
    cost: float | None = None
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False

    def __add__(self, other: "Usage") -> "Usage":
        costs = [cost for cost in (self.cost, other.cost) if cost is not None]
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.search_units + other.search_units,
            sum(costs) if costs else None,
            self.cached_tokens + other.cached_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
            self.estimated or other.estimated,
        )


CallStage = Literal["indexing", "searching", "reranking", "rewriting", "writing", "checking"]
"""What a call to a models' server was for."""

CallOutcome = Literal["done", "failed", "stopped"]


@dataclass(frozen=True, slots=True)
class Spending:
    """One call to a models' server, with all its attempts.

    `model` is the one that answered (the one asked for where none did), `provider` who ran it ("" where not told),
    `seconds` the time from the first attempt to the end, `retries` the attempts after the first.
    """

    model: str
    provider: str
    usage: Usage
    seconds: float
    retries: int
    outcome: CallOutcome


StepName = Literal["rewriting", "searching", "reranking", "writing", "checking"]


@dataclass(frozen=True, slots=True)
class Step:
    """One finished step of an answer: how many items it handled (0 where counting makes no sense) and its seconds."""

    name: StepName
    count: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Answer:
    """A finished answer with its evidence, frozen so that it can be checked after the file was replaced.

    `query` is the standalone question that was searched. `extracts` is True where the text is sentences of the
    documents rather than written by a model. `hits` are all candidates by final rank, `used` the ids of those given
    to the writer. `notices` are sentences the reader must see ("Reranking failed: …"). `reasoning` is what the model
    thought aloud before it answered, kept only where that is asked for.
    """

    text: str
    query: str
    refused: bool
    weak: bool
    extracts: bool
    citations: tuple[Citation, ...]
    hits: tuple[Hit, ...]
    used: tuple[str, ...]
    dropped: tuple[Dropped, ...]
    embedding_model: str
    reranker: str | None
    bands: Bands | None
    writer: str | None
    usage: Usage
    steps: tuple[Step, ...]
    notices: tuple[str, ...]
    incomplete: bool = False
    reasoning: str = ""


# ---------------------------------------------------------------- conversations

Role = Literal["system", "user", "assistant"]
MessageState = Literal["writing", "complete", "stopped", "interrupted", "failed"]


@dataclass(frozen=True, slots=True)
class Turn:
    """One line of a dialogue as models see it.

    `stable` comes before `content` and is worth caching: later calls repeat it word for word. `images` go with it to
    models that see.
    """

    role: Role
    content: str
    stable: str = ""
    images: tuple[Image, ...] = ()


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation. `answer` holds the evidence of an assistant's message once it has any;
    `problem` is the sentence to show when it failed, `failure` what stands behind it where a models' server failed."""

    id: str
    conversation_id: str
    role: Literal["user", "assistant"]
    text: str
    state: MessageState
    answer: Answer | None
    problem: str | None
    created_at: datetime
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Conversation:
    """A dialogue about one collection (None once the collection was deleted)."""

    id: str
    title: str
    collection_id: str | None
    created_at: datetime
    updated_at: datetime


# ---------------------------------------------------------------- events


@dataclass(frozen=True, slots=True)
class Searching:
    """The search has begun, for this standalone query."""

    query: str


@dataclass(frozen=True, slots=True)
class Retrieved:
    """Candidates in fused order; `seconds` is what searching took."""

    hits: tuple[Hit, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Reranked:
    """The same candidates in final order; `model` is None when reranking is off or failed."""

    hits: tuple[Hit, ...]
    model: str | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing passed the threshold; the closest passages, best first."""

    closest: tuple[Hit, ...]


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The next piece of the answer's text, with the citations whose numbers it is the first to show."""

    text: str
    citations: tuple[Citation, ...] = ()


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """The next piece of what the model thinks aloud; never part of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Checking:
    """The answer's text is complete; its citations are now checked by a model."""


@dataclass(frozen=True, slots=True)
class Answered:
    """The end of every answer, refused or not. `failure` stands behind the notice that says what broke it off."""

    answer: Answer
    failure: Failure | None = None


AnswerEvent = Searching | Retrieved | Reranked | Refused | TextDelta | ReasoningDelta | Checking | Answered


@dataclass(frozen=True, slots=True)
class Finished:
    """A chat model's stream ended. `complete` is False when it was cut off; `model` is the one that answered."""

    model: str
    complete: bool


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the indexing of one document has come: `done` of `total` pages, chunks or vectors of `stage`."""

    stage: Stage
    done: int
    total: int


# ---------------------------------------------------------------- models on offer

ModelKind = Literal["embeddings", "rerank", "chat"]
Effort = Literal["none", "minimal", "low", "medium", "high"]
"""How much a model that thinks should think before it answers."""


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars: per token of the prompt, of the completion and of what the provider's cache held, per request
    (a search of a reranker) and per image; None where the server does not say."""

    prompt: float | None = None
    completion: float | None = None
    cached: float | None = None
    request: float | None = None
    image: float | None = None


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model that the server offers.

    `context` is the longest input in tokens, `takes_images` whether it sees (None where not told), `parameters` the
    request fields it knows, `alias_of` the model that a "~…-latest" name stands for now ("" for others).
    """

    id: str
    name: str
    kind: ModelKind
    context: int | None
    price: Price
    takes_images: bool | None
    parameters: tuple[str, ...]
    alias_of: str = ""
