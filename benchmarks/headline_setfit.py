"""SetFit for `headline.py`: trains on the documents of a file and writes what it predicts, and what it cost.

    PYTHON headline_setfit.py ASKED TOLD    with setfit 1.2 in that Python (it wants an older transformers than ours)

Its default head (logistic regression), `num_iterations=20`, batches of 16, one epoch; at most `steps` steps.
"""

import json
import resource
import sys
import time
from importlib.metadata import version
from pathlib import Path


def main() -> None:
    """Train and predict."""
    import torch
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer
    from setfit import SetFitModel, Trainer, TrainingArguments

    torch.set_num_threads(1)
    asked = json.loads(Path(sys.argv[1]).read_text())
    model = SetFitModel.from_pretrained(asked["model"], device="cpu")
    assert isinstance(model.model_body, SentenceTransformer)
    model.model_body.max_seq_length = asked["tokens"]
    data = Dataset.from_dict({"text": asked["texts"], "label": asked["labels"]})
    pairs = 2 * 20 * len(data)
    settings = TrainingArguments(
        num_iterations=20,
        batch_size=16,
        num_epochs=1,
        max_steps=min(asked["steps"], pairs // 16 + 1),
        seed=asked["seed"],
        save_strategy="no",
        report_to="none",
    )
    began, clock = time.perf_counter(), time.process_time()
    trainer = Trainer(model=model, args=settings, train_dataset=data)
    trainer.train()
    seconds, processor = time.perf_counter() - began, time.process_time() - clock
    predicted = [int(label) for label in model.predict(asked["test"], batch_size=32)]
    told = {
        "predicted": predicted,
        "seconds": seconds,
        "processor_seconds": processor,
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "steps": settings.max_steps,
        "steps_of_an_epoch": pairs // 16 + 1,
        "versions": {name: version(name) for name in ("setfit", "sentence-transformers", "transformers", "torch")},
    }
    Path(sys.argv[2]).write_text(json.dumps(told))


if __name__ == "__main__":
    main()
