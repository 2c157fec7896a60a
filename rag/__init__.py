"""Footnote's engine: documents in, cited answers out. No user interface.

Start reading at `pipeline` (`Pipeline.ingest` and `Pipeline.answer`); `domain` holds the nouns, `interfaces` the
seams, `services` the one place that builds things. ARCHITECTURE.md has the map of all modules and the rule which of
them may import which; a test enforces it.
"""
