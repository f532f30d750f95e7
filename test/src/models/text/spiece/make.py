"""Writes spiece.model, a small SentencePiece model with normalisation rules of its own, and what SentencePiece makes
of some texts with it (expected.json).

    pip install sentencepiece && python make.py
"""

import json
import random
import tempfile
from pathlib import Path

import sentencepiece

HERE = Path(__file__).resolve().parent
SUBJECTS = ["a kitten", "a horse", "the red balloon", "two fish", "an old robot", "a paper boat", "the camera", "a small dog", "three birds", "a glass ball"]
VERBS = ["walks across", "jumps over", "rolls along", "floats above", "drifts past", "looks at", "turns towards", "runs through", "slides under", "pans over"]
OBJECTS = ["the green meadow", "a wooden table", "snowy hills", "the quiet river", "a city street at night", "the blue wall", "fallen leaves", "the kitchen floor", "a field of wheat", "the sandy beach"]
TAILS = ["", ", slowly", ", in warm light", ", close-up", ", while it rains", "; 4k, highly detailed", ", as seen from above"]
RULES = [("\ufb01", "fi"), ("\uff21", "A"), ("\uff22", "B"), ("\u00a0", " "), ("\u3000", " "), ("e\u0301", "\u00e9"), ("\u2019", "'"), ("\u2026", "..."), ("\u200b", ""), ("\u00bd", "1/2"), ("\t", " "), ("e\u0301\u0323", "\u1eb9\u0301")]
TEXTS = [
    "", " ", "a kitten walks across the green meadow.", "  two   spaces and\ttabs\n newline ", "\uff21\uff22 wide", "\ufb01ne \u00bd \u2026",
    "caf\u00e9 cafe\u0301 ne\u0301\u0323e", "\u65e5\u672c\u8a9e text", "emoji \U0001f642 in text \U0001f642\U0001f642", "\u2019quoted\u2019", "\u200bzero\u200bwidth\u3000space",
    "UPPER lower 12345 +-*/", "\u2581meta space\u2581", "a\u00a0b", "x" * 60, "\ufeffbom", "\t\t be\u3000\u2581\u2460",
]

random.seed(1)
with tempfile.TemporaryDirectory() as folder:
    corpus, rules = Path(folder) / "corpus.txt", Path(folder) / "rules.tsv"
    corpus.write_text("".join(f"{s} {v} {o}{random.choice(TAILS)}.\n" for s in SUBJECTS for v in VERBS for o in OBJECTS))
    rules.write_text("".join("\t".join(" ".join(f"{ord(c):04X}" for c in side) for side in rule) + "\n" for rule in RULES))
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus), model_prefix=f"{folder}/spiece", vocab_size=100, model_type="unigram", pad_id=0, eos_id=1,
        unk_id=2, bos_id=-1, character_coverage=1.0, normalization_rule_tsv=str(rules), minloglevel=2)
    (HERE / "spiece.model").write_bytes((Path(folder) / "spiece.model").read_bytes())

model = sentencepiece.SentencePieceProcessor(model_file=str(HERE / "spiece.model"))
words = " ".join(s + " " + v + " " + o for s, v, o in zip(SUBJECTS, VERBS, OBJECTS)).split()
for _ in range(20):
    TEXTS.append(" ".join(random.choice(words) for _ in range(random.randint(1, 12))))
    TEXTS.append("".join(random.choice("abc d\u00e9\ufb01\uff21\u00bd\u2026\u2019\u200b\u3000\t.,\U0001f642\u65e5e\u0301\u0323\u2581 ") for _ in range(random.randint(1, 20))))
rows = [{"text": text, "ids": model.encode(text)} for text in TEXTS]
(HERE / "expected.json").write_text("[\n" + ",\n".join("  " + json.dumps(row) for row in rows) + "\n]\n")
