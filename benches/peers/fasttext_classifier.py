"""fastText on the documents that the retrieval classifier's bench uses.

    cargo bench -p hephaestus-forge --bench retrieval -- write FOLDER
    python benches/peers/fasttext_classifier.py FOLDER/prose

Needs fastText's Python binding (`pip install fasttext-numpy2-wheel`). One thread; times are of the processor.
"""

import sys
import time

import fasttext

DOCUMENT = 16_000


def main(folder):
    start = time.process_time()
    model = fasttext.train_supervised(
        f"{folder}/train.txt", dim=16, wordNgrams=2, minn=3, maxn=5, bucket=1 << 20, epoch=5, lr=0.5, thread=1, verbose=0
    )
    print(f"trained in {time.process_time() - start:.1f} s")

    texts, positive = [], []
    for line in open(f"{folder}/test.txt", encoding="utf-8"):
        label, _, text = line.rstrip("\n").partition(" ")
        texts.append(text[:DOCUMENT])
        positive.append(label == "__label__true")
    start = time.process_time()
    predictions = [model.predict(text, k=2) for text in texts]
    seconds = time.process_time() - start
    print(f"scores {sum(len(text.encode()) for text in texts) / seconds / 1e6:.1f} MB/s")

    # A label without any probability is left out of a prediction.
    scores = [dict(zip(labels, values)).get("__label__true", 0.0) for labels, values in predictions]
    ranked = sorted(zip(scores, positive))
    negatives = won = 0
    for _, is_positive in ranked:
        won += negatives if is_positive else 0
        negatives += not is_positive
    print(f"AUC {won / (negatives * sum(positive)):.4f}")
    kept = [(score >= 0.5, is_positive) for score, is_positive in ranked]
    right, wrong = kept.count((True, True)), kept.count((True, False))
    print(f"at 0.5: {right} of {sum(positive)} positive kept, {wrong} of {negatives} negative; ", end="")
    print(f"F1 {2 * right / (right + wrong + sum(positive)):.4f}")


main(sys.argv[1])
