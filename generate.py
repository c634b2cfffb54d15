"""Write SQL for questions, with the base model, the adapter, or both side by side.

\b
python generate.py                 every row of TEST_DATA, base and adapter
python generate.py --preset tiny   the same with the demo's model, on two CPU cores
python generate.py --evaluate      and check whether the SQL gives the right rows
accelerate launch generate.py      on several GPUs; with --resume it continues an interrupted run
python generate.py --question "How many albums are there?" --context schema.sql
python generate.py --database shop.sqlite --interactive    your own database: ask, see the SQL, see the rows
"""

import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sqlora.settings.command_line import load_settings
from sqlora.settings.settings import Settings
from sqlora.system import distributed, shutdown
from sqlora.system.errors import exit_on_user_error

if TYPE_CHECKING:
    from sqlora.generation.answer_writer import AnsweringModel


def main(settings: Settings) -> int:
    """Answers the questions and returns the exit status: 1 if some answers could not be scored, by a bug in SQLoRA."""
    # Here, not above: --help and a wrong flag need no torch.
    distributed.configure_rank()
    from sqlora.system import console

    console.quiet_libraries()
    from sqlora.data import dataset, fitting
    from sqlora.evaluation import judge
    from sqlora.generation import answer_journal, answer_writer, validation_score
    from sqlora.prompt import template
    from sqlora.reports import comparison, html_page
    from sqlora.training import run_folder

    run_folder.check_answers(settings)
    if settings.DATABASE:
        from sqlora.ask import session  # its packages are not in BACKEND bigdl's environments

        session.run(settings, load_model)
        return 0

    # 1. Rows and model.
    rows = dataset.load_samples(settings)
    loaded = load_model(settings, len(rows))

    # 2. Answers. They are written before they are judged, and everything is written before anything is shown: whatever
    # happens, the answers are there.
    shown = fitting.shown_rows(rows, loaded.tokenizer, loaded.schema_style, settings)
    asked = [tuple(row[key] for key in ("question", "context", "evidence", "values") if key in row) for row in shown]
    with answer_journal.open_journal(asked, loaded.base, loaded.adapter_folder, settings) as journal:
        answers = answer_writer.answer_rows(
            loaded.model, loaded.tokenizer, shown, settings, journal, loaded.add_adapter
        )
        if answers is None:  # in a distributed run the main process has them
            return 0
        answers = [answer | {"context": row["context"]} for answer, row in zip(answers, rows, strict=True)]
        if settings.OUTPUT:
            dataset.write_rows(Path(settings.OUTPUT), answers)

        # 3. Verdicts, the before/after page and evaluation.json.
        judged = judge.judge_answers(answers, settings.EVALUATE, validation_score.scoring_of(settings))
        evaluated = settings.EVALUATE and any(judged)
        run = Path(settings.CHECKPOINT_DIR)
        page, evaluation, curve = run / run_folder.PAGE, run / run_folder.EVALUATION, run / run_folder.CURVE
        facts = comparison.answer_facts(answers, judged, loaded.base.id, loaded.adapter_folder)
        prompts = [template.prompt_of(row, settings.prompt_layout) for row in shown]
        html_page.write_page(page, answers, prompts, judged, curve if curve.is_file() else None, facts)
        facts |= {"answers written": journal.pace(), "before/after page": str(page)}
        if evaluated:
            facts |= {"evaluation": str(evaluation)}
            comparison.write_evaluation(evaluation, answers, judged)
    journal.remove()

    # 4. The same on the terminal.
    comparison.print_comparison(answers, judged, console.console)
    if evaluated:
        comparison.print_card(judged, console.console)
    console.print_facts(facts)
    if failed := judge.failures(verdict for judgement in judged for verdict in judgement.values()):
        console.note(failed)
        return 1
    return 0


def load_model(settings: Settings, questions: int) -> "AnsweringModel":
    """The base model and the adapter that MODEL asks for, to answer so many questions. Raises UserError."""
    from sqlora.generation import answer_writer
    from sqlora.model import adapter, architecture, base_models, loading
    from sqlora.reports import banner
    from sqlora.system import console

    device = loading.choose_device(settings)
    answer_writer.check_processes()
    distributed.init_process_group(device.type)
    folder = None if settings.MODEL == "base" else adapter.find_adapter(settings)
    banner.print_generation(settings, device, questions)

    base = distributed.local_main_process_first(lambda: base_models.find_base_model(settings.BASE_MODEL))
    loading.check_causal(base)
    tokenizer = loading.load_tokenizer(base, settings.prompt_layout)
    fingerprint = adapter.check_adapter(folder, base, tokenizer, settings.prompt_layout) if folder else None
    style = adapter.schema_style(folder, fingerprint, settings.SCHEMA_STYLE)
    if folder:
        adapter.check_dialect(folder, fingerprint, settings.SQL_DIALECT)
    if not folder and settings.MODEL == "both":
        console.note("there is no adapter yet, so only the base model answers; python finetune.py trains one")
    model = loading.load_base(base, settings.LOW_BIT, device, training=False)
    architecture.check_tokens(model, tokenizer, settings.prompt_layout)
    if not folder:
        return answer_writer.AnsweringModel(model, tokenizer, base, schema_style=style)
    banner.print_adapter(folder, fingerprint, loading.weights_in_memory(model, settings.LOW_BIT))
    add_adapter = functools.partial(adapter.load_adapter, folder=folder)
    if settings.MODEL == "both" and not settings.DATABASE and adapter.changes_base(folder):
        return answer_writer.AnsweringModel(model, tokenizer, base, folder, add_adapter, style)
    return answer_writer.AnsweringModel(add_adapter(model), tokenizer, base, folder, schema_style=style)


if __name__ == "__main__":
    with exit_on_user_error(), shutdown.exit_together():
        status = main(load_settings(None, __doc__, "generate.py", trains=False))
    sys.exit(status)
