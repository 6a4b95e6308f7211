"""A language model of random weights in a GGUF file: what it says means nothing, and a grammar still makes it JSON."""

import re
from importlib import resources
from pathlib import Path

import gguf
import numpy as np

CONTEXT = 16384
WIDTH, LAYERS, HEADS, HIDDEN = 32, 1, 2, 64

TEMPLATE = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}assistant: "


def write_tiny_gguf(file: Path, seed: int = 0) -> Path:
    """A llama of some 50,000 parameters. Its tokens are bytes, ASCII characters, and words of the vocabularies."""
    kinds = gguf.TokenType
    single_bytes = [f"<0x{byte:02X}>" for byte in range(256)]  # llama.cpp aborts where one is missing
    words = ["\u2581", *map(chr, range(33, 127)), *_schema_words()]
    pieces = ["<unk>", "<s>", "</s>", *single_bytes, *words]
    types = [kinds.UNKNOWN, kinds.CONTROL, kinds.CONTROL] + [kinds.BYTE] * 256 + [kinds.NORMAL] * len(words)
    rng = np.random.default_rng(seed)

    def weights(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) * 0.05).astype(np.float32)

    # Column 0 is a constant that says how willingly a token is chosen: whole words, and the end of a string.
    embedding, output = weights(len(pieces), WIDTH), weights(len(pieces), WIDTH)
    embedding[:, 0] = 1.0
    output[:, 0] = [4.0 if piece == '"' else 2.0 if len(piece) > 2 else 0.0 for piece in pieces]
    output[:259, 0] = -1.0

    writer = gguf.GGUFWriter(str(file), "llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(len(pieces))
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(pieces)
    writer.add_token_scores([-float(rank) for rank in range(len(pieces))])
    writer.add_token_types(types)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_chat_template(TEMPLATE)
    writer.add_tensor("token_embd.weight", embedding)
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, np.float32))
    writer.add_tensor("output.weight", output)
    for layer in range(LAYERS):
        for name, shape in {
            "attn_q": (WIDTH, WIDTH),
            "attn_k": (WIDTH, WIDTH),
            "attn_v": (WIDTH, WIDTH),
            "attn_output": (WIDTH, WIDTH),
            "ffn_gate": (HIDDEN, WIDTH),
            "ffn_up": (HIDDEN, WIDTH),
            "ffn_down": (WIDTH, HIDDEN),
        }.items():
            writer.add_tensor(f"blk.{layer}.{name}.weight", weights(*shape))
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", np.ones(WIDTH, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _schema_words() -> list[str]:
    """Names and words of the vocabularies: an answer is far fewer tokens than letters."""
    folder = Path(str(resources.files("facesyn_prompts"))) / "vocabularies"
    text = " ".join(f"{file.stem} {file.read_text()}" for file in sorted(folder.iterdir()))
    return sorted({"attributes", "sentence", "people", "clothing", "marks", *re.findall(r"[a-z_]{3,}", text)})
