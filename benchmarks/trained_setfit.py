"""SetFit for `trained.py`: trains on the documents of a file and writes what it predicts, and what it cost.

    PYTHON trained_setfit.py TASK ANSWER    with setfit 1.2 in that Python (it wants an older transformers than ours)

Its default head (logistic regression), batches of 16, one whole epoch of `num_iterations=20`, or of as many as make no
more than `steps` steps: a part of an epoch has pairs of some classes alone. In the precision of the others.
"""

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path


def main() -> None:
    """Train and predict."""
    import torch
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments

    torch.set_num_threads(1)
    task = json.loads(Path(sys.argv[1]).read_text())
    names = sorted(set(task["labels"]))
    model = SetFitModel.from_pretrained(task["model"], device="cpu")
    model.model_body.max_seq_length = task["tokens"]
    data = Dataset.from_dict({"text": task["texts"], "label": [names.index(label) for label in task["labels"]]})
    iterations = min(20, max(1, task["steps"] * 16 // (2 * len(data))))
    settings = TrainingArguments(
        num_iterations=iterations,
        batch_size=16,
        num_epochs=1,
        seed=task["seed"],
        save_strategy="no",
        report_to="none",
    )
    clock = time.process_time()
    # Without the cache: kept weights in bfloat16 would stay what they were before the first step.
    with torch.autocast("cpu", torch.bfloat16, enabled=task["precision"] == "bf16", cache_enabled=False):
        Trainer(model=model, args=settings, train_dataset=data).train()
        predicted = [names[int(label)] for label in model.predict(task["test"], batch_size=32)]
    answer = {
        "predicted": predicted,
        "processor_seconds": round(time.process_time() - clock, 1),
        "iterations": iterations,
        "versions": {name: version(name) for name in ("setfit", "sentence-transformers", "transformers", "torch")},
    }
    Path(sys.argv[2]).write_text(json.dumps(answer))


if __name__ == "__main__":
    main()
