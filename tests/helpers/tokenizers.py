"""Tokenizers of the common kinds, trained on the spot: what a base model may come with."""

from __future__ import annotations

import functools
import json
from typing import Any, Literal

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from bench.data.synthetic.talk import talk_instructions
from bench.data.synthetic.world import build_world

Kind = Literal["gpt2", "llama3", "llama2", "unigram", "across_words"]
KINDS: tuple[Kind, ...] = ("gpt2", "llama3", "llama2", "unigram", "across_words")
"""gpt2, llama3: byte-level BPE with their splits before it (llama3's may join a colon and a line break, or a sign and a
word); llama2: BPE over a whole text after a metaspace, with bytes for what it does not know (SentencePiece); unigram:
SentencePiece's other model; across_words: byte-level BPE without any split, whose tokens span words."""

SPECIALS = ["<unk>", "<s>", "</s>"]
LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
ASKED = ("### Response:", "\nA:", "Answer:", "Ans", "(", "**", "Say: ", "\n")
ANSWERED = ("-4", "**bold**", '"quoted"', "wer", "\n  the correct answer is ", " it is", "a)", "é", "12")


@functools.cache
def _texts() -> tuple[str, ...]:
    """What the tokenizers learn from: joins of prompts and answers many times over, so that tokens span them."""
    rows = [f"{row.instruction} {row.output}" for row in talk_instructions()[:200]]
    rows += [f"{row.text}: {' '.join(row.choices)}" for row in build_world().train["world_two"][:200]]
    joined = [f"{row} {before}{after}" for row in rows[:40] for before in ASKED for after in ANSWERED]
    return (*rows, *joined)


@functools.cache
def _core(kind: Kind) -> str:
    """The tokenizer's serialized form, without a post-processor."""
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if kind in ("gpt2", "llama3", "across_words"):
        core = Tokenizer(models.BPE())
        by_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=kind == "gpt2")
        split = pre_tokenizers.Split(Regex(LLAMA3_SPLIT), "isolated")
        core.pre_tokenizer = pre_tokenizers.Sequence([split, by_bytes]) if kind == "llama3" else by_bytes
        core.decoder = decoders.ByteLevel()
        trainer: Any = trainers.BpeTrainer(
            vocab_size=900, special_tokens=SPECIALS, initial_alphabet=alphabet, show_progress=False
        )
    else:
        bytes_ = [f"<0x{number:02X}>" for number in range(256)]
        core = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True) if kind == "llama2" else models.Unigram())
        if kind == "llama2":
            core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
            trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=[*SPECIALS, *bytes_], show_progress=False)
        else:
            core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
            trainer = trainers.UnigramTrainer(
                vocab_size=900, special_tokens=[*SPECIALS, *bytes_], unk_token="<unk>", show_progress=False
            )
        core.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
    core.train_from_iterator(_texts(), trainer)
    serialized = json.loads(core.to_str())
    serialized["added_tokens"] = [token for token in serialized["added_tokens"] if token["content"] in SPECIALS]
    serialized["model"]["byte_fallback"] = kind in ("llama2", "unigram")
    return json.dumps(serialized)


def make_tokenizer(kind: Kind, begins: bool = False, ends: bool = False) -> Any:
    """A tokenizer that prepends `<s>` by itself if it `begins`, and appends `</s>` by itself if it `ends`."""
    core = Tokenizer.from_str(_core(kind))
    if begins or ends:
        special = [("<s>", core.token_to_id("<s>")), ("</s>", core.token_to_id("</s>"))]
        pattern = f"{'<s> ' if begins else ''}$A{' </s>' if ends else ''}"
        core.post_processor = processors.TemplateProcessing(single=pattern, special_tokens=special)
    return PreTrainedTokenizerFast(
        tokenizer_object=core, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )


def text_of(tokenizer: Any, ids: list[int]) -> bytes:
    """The bytes that tokens stand for, without those of special tokens; a token may be a part of a character. A
    metaspace before the text is a space."""
    tokens = [token for token in tokenizer.convert_ids_to_tokens(ids) if token not in SPECIALS]
    if isinstance(tokenizer.backend_tokenizer.decoder, decoders.ByteLevel):
        return b"".join(BYTE_OF[character] for token in tokens for character in token)
    return b"".join(
        bytes([int(token[3:5], 16)])
        if len(token) == 6 and token.startswith("<0x")
        else token.replace("▁", " ").encode()
        for token in tokens
    )


def _byte_of() -> dict[str, bytes]:
    """GPT-2's letter for each byte: printable bytes stand for themselves, the others for the letters from U+0100."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {chr(number): bytes([number]) for number in printable}
    others = [number for number in range(256) if number not in printable]
    return letters | {chr(256 + index): bytes([number]) for index, number in enumerate(others)}


BYTE_OF = _byte_of()
