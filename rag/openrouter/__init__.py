"""OpenRouter, or any server compatible with it: embeddings, rerank and chat over one HTTP client.

- `client`       sends a call, retries it, translates every failure; the only module that waits
- `connections`  connections that a stop can cut at any moment
- `failures`     what a failed reply means to the person; pure
- `sse`          server-sent events, decoded without I/O
- `usage`        figures in replies, read leniently; pure
- `embeddings`, `rerank`, `chat`   the three seams of `rag.interfaces`
"""
