"""The embedded default: static word vectors, a fitted reranker and extracts, without a network.

`embeddings` makes vectors, `features` measures how a passage answers a question, `question_type` tells what kind of
thing is asked for; `rerank` and `answer` weigh these features with fitted numbers.
"""
