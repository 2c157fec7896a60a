"""Footnote's engine: documents in, cited answers out. No user interface, no web framework below `api`.

Start reading at `pipeline` (`Pipeline.ingest` and `Pipeline.answer`); `domain` holds the nouns, `interfaces` the
seams, `services` the one place that builds things. Imports only go down these levels (a test enforces it):

0  domain, errors, settings, stopping
1  everything that does one thing: parsing, chunking, words, prompts, citations, retrieval, interfaces, openrouter,
   local, chroma, preflight, pictures, and the stores on `database` (library, originals, passages, vectors, keywords,
   conversations)
2  pipeline
3  chat, indexing, recovery
4  services, api
"""
