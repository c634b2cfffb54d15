"""What test_distributed.py starts in each of several processes: runs of finetune.py, one after the other, with what
befalls them.

accelerate launch tests/launched.py '[["straight"], ["interrupted", "--max-steps", "9"]]' [flags of all runs]
"""

import json
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import finetune
from sqlora.settings.command_line import load_settings
from sqlora.system import distributed, shutdown
from sqlora.system.errors import Interrupted, exit_on_user_error

MOST_TOKENS = 260  # that the second process's device holds at once: two short rows, and not three


def befall(kind: str, rank: int) -> None:
    """Has the second process interrupted in its third step, or lack memory: for long passes, or for any."""
    import torch

    from sqlora.training import sql_trainer
    from sqlora.training.packing import packed_loss

    loss_sum, step = packed_loss.loss_sum, sql_trainer.SqlTrainer.training_step

    def interrupted_step(self, *arguments):
        if self.state.global_step == 2 and not self.stopping.stop.signal:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, *arguments)

    def little_memory(model, inputs, base):
        if torch.is_grad_enabled() and (kind == "none fits" or inputs["input_ids"].numel() > MOST_TOKENS):
            raise torch.OutOfMemoryError("no memory")
        return loss_sum(model, inputs, base)

    if rank == 1 and kind == "interrupted":
        sql_trainer.SqlTrainer.training_step = interrupted_step
    if rank == 1 and kind in ("short of memory", "none fits"):
        packed_loss.loss_sum = little_memory


def main() -> None:
    rank, _ = distributed.rank_and_world()
    distributed.configure_rank()
    from sqlora.system import console

    console.quiet_libraries()
    from sqlora.training import sql_trainer
    from sqlora.training.packing import packed_loss

    loss_sum, step = packed_loss.loss_sum, sql_trainer.SqlTrainer.training_step
    for number, (kind, *flags) in enumerate(json.loads(sys.argv[1])):
        packed_loss.loss_sum, sql_trainer.SqlTrainer.training_step = loss_sum, step
        befall(kind, rank)
        folders = ["--checkpoint-dir", f"{number}/lora_models", "--model-path", f"{number}/saved_model"]
        try:
            finetune.main(load_settings([*sys.argv[2:], *folders, *flags], ""))
        except Interrupted as ended:
            Path(f"{number}/rank_{rank}").write_text(str(ended.number))


if __name__ == "__main__":
    with exit_on_user_error(), shutdown.exit_together():
        main()
