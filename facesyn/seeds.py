"""Seeds as a pure function of what is made, never of rank, batch, worker count or order."""

import hashlib


def derive_seed(run_seed: int, stage: str, sample_id: str, attempt: int = 0) -> int:
    """The seed of one sample of one stage: blake2b(run_seed, stage, sample_id, attempt), in [0, 2**63)."""
    text = f"{run_seed}/{stage}/{sample_id}/{attempt}"
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
