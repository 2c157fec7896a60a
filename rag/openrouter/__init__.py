"""OpenRouter, or any server compatible with it: embeddings, rerank and chat over one HTTP client.

- `client`       sends a call, retries it, translates every failure; the only module that waits for a server
- `limiter`      how many batches at once, and which models must be left alone for a while
- `connections`  connections that a stop can cut at any moment
- `billing`      what one call took, told once however it ends
- `failures`     what a failed call means to the person; pure
- `routing`      which providers may serve a request; pure
- `input_types`  what embedding models call a question and a passage; pure
- `pictures`     pictures as part of a request's text; pure
- `messages`     a dialogue as the messages of a request, laid out for the provider's cache; pure
- `sse`          server-sent events, decoded without I/O
- `deltas`       what one event of a reply says and thinks; pure
- `thinking`     thoughts and answer told apart where they come as one text; pure
- `structured`   replies in a form: asked for, and found in what comes back; pure
- `usage`        figures in replies, read leniently; pure
- `embeddings`, `rerank`, `chat`   the three seams of `rag.interfaces`
- `models`       what the server offers, and the state of the key
"""
