"""SetFit for `trained.py`: trains on the documents of a file and writes what it predicts, and what it cost.

    PYTHON trained_setfit.py TASK ANSWER    with setfit 1.2 in that Python (it wants an older transformers than ours)

Its default head (logistic regression), `num_iterations=20`, batches of 16, one epoch; at most `steps` steps. In
bfloat16, as the others.
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
    epoch = 2 * 20 * len(data) // 16 + 1
    settings = TrainingArguments(
        num_iterations=20,
        batch_size=16,
        num_epochs=1,
        max_steps=min(task["steps"], epoch),
        seed=task["seed"],
        save_strategy="no",
        report_to="none",
    )
    clock = time.process_time()
    with torch.autocast("cpu", torch.bfloat16):
        Trainer(model=model, args=settings, train_dataset=data).train()
        predicted = [names[int(label)] for label in model.predict(task["test"], batch_size=32)]
    answer = {
        "predicted": predicted,
        "processor_seconds": round(time.process_time() - clock, 1),
        "steps": settings.max_steps,
        "steps_of_an_epoch": epoch,
        "versions": {name: version(name) for name in ("setfit", "sentence-transformers", "transformers", "torch")},
    }
    Path(sys.argv[2]).write_text(json.dumps(answer))


if __name__ == "__main__":
    main()
