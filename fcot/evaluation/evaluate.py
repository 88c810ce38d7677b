"""The verb `evaluate`."""

from pathlib import Path
from typing import Any, Literal

ALL = "docvqa,chartqa,textvqa,infovqa,ocrbench,ocrbench_v2,ai2d,mathvista,scienceqa,mme"


def evaluate(
    model: list[Path],
    benchmarks: str = ALL,
    root: Path = Path("data/benchmarks"),
    protocol: Literal["internvl2", "vlmevalkit", "lmms_eval"] = "internvl2",
    scoring: Literal["internvl2", "definition"] = "internvl2",
    output: Path = Path("runs/evaluate"),
    difficult: float | None = None,
    check_published: str | None = None,
    allow_partial: bool = False,
    limit: int | None = None,
    layout: Literal["official", "internvl", "parquet", "tsv"] | None = None,
    max_tiles: int | None = None,
    max_new_tokens: int | None = None,
    reduce: str | None = None,
    reduce_options: dict[str, Any] | None = None,
    visual_tokens: int | Literal["auto"] | None = None,
    budget: int | None = None,
    batch_size: int = 32,
    batch_tokens: int = 32768,
    device: str = "auto",
    dtype: Literal["auto", "float32", "bfloat16"] = "auto",
    seed: int = 0,
) -> None:
    """Answer public benchmarks with models, score the answers as the authors do, and compare the models in pairs.

    Answers are written as they come; a run that was stopped goes on where it was. Under torchrun, processes share the
    rows, and the table is the same. Nothing is downloaded: the data must be below --root.

    Args:
        model: Folders of models: students at any stage, exported ones, native InternVL or the authors' layout. Further
            ones are compared with the first.
        benchmarks: Short names with commas between them; docvqa/test names another split than the default.
        root: Folder that holds the data, in any layout that people have.
        protocol: Whose prompts, tiles and lengths: those of InternVL2's published scores, or the prompts of
            VLMEvalKit or lmms-eval.
        scoring: The rule that counts; the other is printed too where it differs.
        output: Folder of answers, results and submissions.
        difficult: Also answer with the first model at fewer tiles that leave this share of visual tokens, and report
            the rows that it then gets wrong by themselves.
        check_published: A published model, such as InternVL2-2B. Exit with 0 only if each published score of it lies
            within the interval of the first model's.
        allow_partial: Let sets that are not whole into the table.
        limit: Answer only the first rows of each set.
        layout: Which layout to read where a set is there in several (default: the best, said in the output).
        max_tiles: Most tiles of a picture, instead of the protocol's.
        max_new_tokens: Longest answer, instead of the protocol's.
        reduce: Short name of a training-free reducer of visual tokens, such as fastv, applied to all models.
        reduce_options: Options of that reducer; --reduce.keep 0.5 sets one.
        visual_tokens: Visual tokens of each tile, such as 64, 128 or 256, or auto for what its router chooses, if a
            model is an elastic student; others keep theirs.
        budget: Most visual tokens of a row's pages, instead, shared out by the router.
        batch_size: Most rows answered together.
        batch_tokens: Most tokens of a batch.
        device: Where to run: auto (an accelerator if there is one), cpu, cuda, …
        dtype: Type of the weights; auto keeps the stored type.
        seed: Of the bootstrap.

    Raises:
        UserError: If a model, a set or an option is missing or wrong.
        SystemExit: With 1 if published scores were to be checked and one does not hold.
    """
    ...
    from fcot.evaluation.run.evaluation import Request, run

    run(
        Request(
            models=model,
            benchmarks=benchmarks,
            root=root,
            protocol=protocol,
            scoring=scoring,
            output=output,
            difficult=difficult,
            check_published=check_published,
            allow_partial=allow_partial,
            limit=limit,
            layout=layout,
            max_tiles=max_tiles,
            max_new_tokens=max_new_tokens,
            reducer=(reduce, reduce_options),
            visual_tokens=visual_tokens,
            budget=budget,
            batch_size=batch_size,
            batch_tokens=batch_tokens,
            device=device,
            dtype=dtype,
            seed=seed,
        )
    )
