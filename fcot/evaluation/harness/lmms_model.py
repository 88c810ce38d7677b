"""The model `fcot` of lmms-eval (0.7.3): `--model fcot --model_args pretrained=FOLDER`."""

from pathlib import Path
from typing import Any

from lmms_eval.api.model import lmms

from fcot.errors import UserError
from fcot.evaluation.harness import tiles_of
from fcot.evaluation.harness.asking import Answers, Question, picture_of
from fcot.evaluation.run.reader import Budget

LONGEST = 1024  # tokens of an answer where a task says nothing


class LmmsModel(lmms):
    """Answers lmms-eval's requests; prompts are the tasks' own, tiles those of InternVL2's published scores.

    Args:
        pretrained: Folder of a student, an exported student, a native InternVL or the authors' layout.
        max_tiles: Most tiles of a picture, for all tasks (default: by task, as InternVL2 was scored).
        dtype: Type of the weights.
        batch_tokens: Most tokens of a batch.
        device: Where to run.
        batch_size: Most rows answered together.
        max_batch_size: Not used; the harness passes it.
    """

    is_simple = False

    def __init__(
        self,
        pretrained: str,
        max_tiles: int | None = None,
        dtype: str = "auto",
        batch_tokens: int = 32768,
        device: str | None = None,
        batch_size: int | str = 32,
        max_batch_size: int | None = None,
    ) -> None:
        super().__init__()
        self.max_tiles = None if max_tiles is None else int(max_tiles)
        number = 32 if str(batch_size).startswith("auto") else int(batch_size)
        self.answers = Answers(
            Path(pretrained), device=device or "auto", dtype=dtype, batch_size=number, batch_tokens=int(batch_tokens)
        )
        self._device = self.answers.reader.device

    @property
    def device(self) -> Any:
        """Where the model runs."""
        return self._device

    def generate_until(self, requests: list[Any]) -> list[str]:
        """Answer requests, in their order; text behind a task's stop strings is cut off."""
        questions, stops = [], []
        for number, request in enumerate(requests):
            _, doc_to_messages, options, doc_id, task, split = request.args
            if options.get("do_sample") and float(options.get("temperature") or 0) > 0:
                raise UserError(f"The task {task} asks for sampling.\nSet its temperature to 0.")
            parts = [
                part for message in doc_to_messages(self.task_dict[task][split][doc_id]) for part in message["content"]
            ]
            text = "".join(part["text"] for part in parts if part["type"] == "text")
            pictures = [
                picture_of(part["url"], f"picture {place} of request {number}")
                for place, part in enumerate(parts)
                if part["type"] == "image"
            ]
            budget = Budget(self.max_tiles or tiles_of(task), int(options.get("max_new_tokens", LONGEST)))
            questions.append(Question(text, pictures, budget))
            until = options.get("until") or []
            stops.append([until] if isinstance(until, str) else until)
        answers = self.answers.to(questions)
        return [cut(answer, until) for answer, until in zip(answers, stops, strict=True)]

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        """Refuse: tasks that compare likelihoods are not for this model.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError("fcot answers questions; it gives lmms-eval no likelihoods.")

    def generate_until_multi_round(self, requests: list[Any]) -> list[str]:
        """Refuse: rounds are not for this model.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError("fcot answers single questions in lmms-eval.")


def cut(answer: str, stops: list[str]) -> str:
    """Return an answer up to the first stop string."""
    for stop in filter(None, stops):
        answer = answer.split(stop)[0]
    return answer
