"""Writes a tiny model of random weights for llama.cpp: what it says is nonsense, but it goes over a real server's wire.

    python benchmarks/peer_model.py MODEL.gguf [ENDING]        (needs the packages gguf and numpy)

One file chats, embeds (the mean of its tokens) and reranks. ENDING says how much the reply's end is wanted: with the
default it never comes, with 3.5 after some tokens.
"""

import sys

import gguf
import numpy

WIDTH, LAYERS, HEADS, INNER = 64, 2, 4, 128
LETTERS = "▁abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,?!:"
TOKENS = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *LETTERS]
KINDS = [2, 3, 3] + [6] * 256 + [1] * len(LETTERS)  # unknown, control, bytes, normal
END = TOKENS.index("</s>")
FACTS = {
    "context_length": 32_768,
    "embedding_length": WIDTH,
    "block_count": LAYERS,
    "feed_forward_length": INNER,
    "head_count": HEADS,
    "head_count_kv": HEADS,
    "key_length": WIDTH // HEADS,
    "value_length": WIDTH // HEADS,
    "layer_norm_rms_eps": 1e-5,
    "pooling_type": gguf.PoolingType.MEAN,
    "classifier_output_labels": ["yes", "no"],
    "tokenizer_model": "llama",
    "token_list": TOKENS,
    "token_scores": [-float(rank) for rank in range(len(TOKENS))],
    "token_types": KINDS,
    "eos_token_id": END,
    "chat_template": "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}",
}


def weights(ending: float) -> dict[str, numpy.ndarray]:
    """The tensors by name. Channel 0 is the same for every token; all it does is to make the end (un)likely."""
    random = numpy.random.default_rng(1)

    def matrix(rows: int, columns: int, spread: float = 0.1) -> numpy.ndarray:
        return spread * random.standard_normal((rows, columns))

    embedding, output = matrix(len(TOKENS), WIDTH, 1.0), matrix(len(TOKENS), WIDTH, 0.5)
    embedding[:, 0], output[:, 0], output[END] = 3.0, 0.0, 0.0
    output[END, 0] = ending
    output[TOKENS.index("<0x80>") : TOKENS.index("▁")] = 0.0  # half characters: llama-cpp-python waits for their end
    tensors = {"token_embd": embedding, "output": output, "cls.output": matrix(2, WIDTH, 0.5)}
    tensors["output_norm"] = numpy.ones(WIDTH)
    for block in (f"blk.{layer}." for layer in range(LAYERS)):
        tensors |= {f"{block}attn_{name}": matrix(WIDTH, WIDTH) for name in ("q", "k", "v", "output")}
        tensors |= {f"{block}ffn_{name}": matrix(INNER, WIDTH) for name in ("gate", "up")}
        tensors[f"{block}ffn_down"] = matrix(WIDTH, INNER)
        tensors[f"{block}attn_output"][0] = tensors[f"{block}ffn_down"][0] = 0.0
        tensors |= {f"{block}{name}_norm": numpy.ones(WIDTH) for name in ("attn", "ffn")}
        tensors |= {f"{block}attn_{name}_norm": numpy.ones(WIDTH // HEADS) for name in ("q", "k")}
    return tensors


def main(path: str, ending: float = -50.0) -> None:
    writer = gguf.GGUFWriter(path, "qwen3")
    for name, fact in FACTS.items():
        getattr(writer, f"add_{name}")(fact)
    for name, tensor in weights(ending).items():
        writer.add_tensor(f"{name}.weight", tensor.astype(numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main(sys.argv[1], *map(float, sys.argv[2:]))
