"""Reads what the runs left, and makes a section of each table and figure."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from fcot.files.json_files import read_json
from fcot.report.training import find_scalars
from fcot.reproduce.page_scores import Scores, benchmark_scores, benchmark_splits, scores_of
from fcot.reproduce.paper import claims as judge
from fcot.reproduce.paper import published
from fcot.reproduce.paper.merges import of_experiment, of_snapshots
from fcot.reproduce.paper.pictures import draw_changes, draw_losses, draw_see_saw
from fcot.reproduce.paper.section import Section, difference, score_row, told
from fcot.reproduce.paper.work import SNAPSHOTS, Part, Run, Work

SHARES = {2: "1/2", 4: "1/4"}


class Results:
    """The sections of a re-run.

    Args:
        work: Whose runs have ended.
    """

    def __init__(self, work: Work) -> None:
        self.work, self.preset, self.first = work, work.preset, work.preset.modules[0]

    def sections(self, parts: Sequence[Part]) -> list[Section]:
        """Return the sections in the paper's order."""
        makers: dict[Part, Callable[[], Section]] = {
            "table1": self.table1,
            "table2": self.table2,
            "table3": self.table3,
            "table4": self.table4,
            "table5": self.table5,
            "figure3": self.figure3,
            "figure4": self.figure4,
            "figure5": self.figure5,
            "figure6": self.figure6,
        }
        return [make() for part, make in makers.items() if part in parts]

    def scores(self, name: str) -> Scores:
        """Return a tested model's scores."""
        folder = self.work.tested(name)
        return benchmark_scores(folder) if self.preset.scores_benchmarks else scores_of(folder)

    def post(self, module: str, ratio: int) -> list[Scores]:
        """Return the scores of post-trained students, or of the control at ratio 1, one run a seed."""
        return [self.scores(f"post-{Run(module, ratio, seed).name}") for seed in self.preset.seeds]

    def realigned(self, ratio: int) -> list[Scores]:
        """Return the scores of students that were re-aligned only."""
        return [self.scores(f"realigned-{Run(self.first, ratio, seed).name}") for seed in self.preset.seeds]

    @cached_property
    def teacher(self) -> list[Scores]:
        """The teacher's scores: one run, for it is not trained."""
        return [self.scores("teacher")]

    @cached_property
    def split(self) -> str:
        """What of the pages or benchmarks is scored."""
        known = sorted(self.work.tested("").glob("*/scores.json"))
        return benchmark_splits(known[0].parent) if known else "split test"

    def told(self) -> str:
        """Return what a table of scores is of."""
        (scores,) = self.teacher
        return told(scores, len(self.preset.seeds), sum(map(len, scores.values())), self.split)

    def table1(self) -> Section:
        """Students after post-training, rivals, and the control that the paper lacks."""
        teacher, control = self.teacher, self.post(self.first, 1)
        rows = [score_row("teacher", teacher), score_row("control: teacher + same SFT", control)]
        said = [judge.control("Table 1", "The control against the teacher", difference(control, teacher))]
        for ratio in self.preset.ratios:
            student, share = self.post(self.first, ratio), SHARES[ratio]
            ours = published.gain(published.TABLE1, f"FCoT-VL, {share}", "InternVL2-2B")
            says = f"At {share} of the tokens the student scores at least as high as the teacher"
            said.append(judge.not_lower("Table 1", says, ours, difference(student, teacher)))
            for name in self.preset.rivals:
                rival = [self.scores(f"{name}-r{ratio}")]
                rows.append(score_row(f"teacher with {name}, {share}", rival))
                stated = published.gain(published.TABLE1, f"FCoT-VL, {share}", f"FastV, {share}")
                says = f"At {share} of the tokens the student scores higher than {name}"
                found = difference(student, rival)
                said.append(judge.higher("Table 1", says, stated if name == "fastv" else None, found))
            says = f"The student at {share} against the teacher after the same post-training"
            said.append(judge.control("Table 1", says, difference(student, control)))
            rows.append(score_row(f"student, {share}", student))
        head = ["model", "mean", *teacher[0]]
        return Section("Table 1: students after post-training", self.told(), head, rows, claims=said)

    def table2(self) -> Section:
        """Students that were re-aligned only."""
        teacher, rows, said = self.teacher, [score_row("teacher", self.teacher)], []
        found = {ratio: self.realigned(ratio) for ratio in self.preset.ratios}
        for ratio, students in found.items():
            rows.append(score_row(f"re-aligned, {SHARES[ratio]}", students))
            stated = published.gain(published.TABLE2, SHARES[ratio], "InternVL2-2B")
            says = f"After re-alignment alone, {SHARES[ratio]} of the tokens score lower than the teacher"
            said.append(judge.lower("Table 2", says, stated, difference(students, teacher)))
        if len(found) > 1:
            more, fewer, *_ = sorted(found)
            stated = published.gain(published.TABLE2, SHARES[fewer], SHARES[more])
            says = f"After re-alignment alone, {SHARES[fewer]} scores lower than {SHARES[more]}"
            said.append(judge.lower("Table 2", says, stated, difference(found[fewer], found[more])))
        return Section("Table 2: re-alignment alone", self.told(), ["model", "mean", *teacher[0]], rows, claims=said)

    def table3(self) -> Section:
        """Compression modules after equal training."""
        ratio = self.preset.ratios[0]
        found = {module: self.post(module, ratio) for module in self.preset.modules}
        rows = [score_row(module, runs) for module, runs in found.items()]
        ours, said = found[self.first], []
        for module, runs in found.items():
            if module != self.first:
                known = {self.first, module} <= {*published.TABLE3}
                stated = published.gain(published.TABLE3, self.first, module) if known else None
                both = difference(ours, runs)
                if module == "pool":
                    said.append(judge.equal("Table 3", f"{self.first} and {module} are within 2 points", stated, both))
                else:
                    said.append(judge.higher("Table 3", f"{self.first} is better than {module}", stated, both))
        (*_, scores) = ours
        lead = told(scores, len(ours), sum(map(len, scores.values())), self.split)
        lead += f" Ratio {ratio}, equal steps of both stages."
        return Section("Table 3: compression modules", lead, ["module", "mean", *scores], rows, claims=said)

    def table4(self) -> Section:
        """Merging: of this re-run's snapshots, or as `reproduce merging` found it."""
        if not self.preset.merges:
            return of_experiment(self.work.output / "merging")
        ratio, seeds = self.preset.ratios[0], self.preset.seeds
        names = [Run(self.first, ratio, seed).name for seed in seeds]
        runs = {method: [self.scores(f"merged-{name}-{method}") for name in names] for method in self.preset.merges}
        return of_snapshots(self.post(self.first, ratio), runs, ratio, self.split)

    def table5(self) -> Section:
        """The time to read a page."""
        found = read_json(self.work.output / "time.json")
        rows, said = [], []
        measured = [row for row in found["measured"] if row["batch"] == 1 and not row["one_page"]]
        for row in sorted(measured, key=lambda row: int(row["ratio"])):
            ratio, gain = int(row["ratio"]), row["gain"]
            left, low, high = (1 / gain[each] for each in ("median", "high", "low"))
            limit = found["flops"][str(ratio)]["total"] / found["flops"]["1"]["total"]
            stated = f"{published.time_left(SHARES[ratio]):.2f}" if ratio in SHARES else "1"
            ours = f"{left:.2f} ({low:.2f} to {high:.2f})"
            rows.append([f"ratio {ratio}", f"{row['total']['median']:.3f}", ours, f"{limit:.2f}", stated])
            if ratio in SHARES:
                verdict = "agrees" if high < 1 else "disagrees" if low > 1 else "cannot tell"
                says = f"At {SHARES[ratio]} of the tokens an answer takes less time: share of the time left"
                said.append(judge.Claim("Table 5", says, stated, f"{ours}, of FLOPs {limit:.2f}", verdict))
        lead = (
            f"Seconds to read a page and answer with {found['new_tokens']} tokens, model {found['model']} on "
            f"{found['device']}, medians of {measured[0]['total']['repeats']} runs in turn, in brackets lowest and "
            "highest, by which it is judged; beside it the share of FLOPs that is left. The paper gives no unit: its "
            "times are shown over that of all tokens."
        )
        head = ["", "seconds", "share of time", "share of FLOPs", "the paper's share"]
        return Section("Table 5: time", lead, head, rows, claims=said)

    def figure3(self) -> Section:
        """The change of each task."""
        changes = {f"student, {SHARES[ratio]}": difference(self.post(self.first, ratio), self.teacher)
                   for ratio in self.preset.ratios}  # fmt: skip
        changes["control"] = difference(self.post(self.first, 1), self.teacher)
        rows = [
            [task, *(judge.points(each.by_task[task]) for each in changes.values())]
            for task in next(iter(changes.values())).by_task
        ]
        lead = (
            "Score after post-training minus the teacher's, by task, in points of 100. The control has all its tokens "
            "and the same post-training: what it gains comes of the data, not of compression."
        )
        said = []
        for name, each in changes.items():
            up, down = judge.told_apart({"": each})
            ours = f"up: {'; '.join(up) or 'none'}; down: {'; '.join(down) or 'none'}, by Holm's correction at 5 %"
            one_way = len(each.by_task) in (len(up), len(down))
            verdict = "agrees" if up and down else "disagrees" if one_way else "cannot tell"
            says = f"Some tasks gain and others lose: {name}"
            stated = published.range_of_changes(name)
            said.append(judge.Claim("Figure 3", says, stated, ours, verdict if stated else "not in the paper"))
        head, picture = ["task", *changes], draw_changes(changes)
        return Section("Figure 3: change by task", lead, head, rows, picture, "Change of each task", said)

    def figure4(self) -> Section:
        """The loss of re-alignment by module."""
        ratio = self.preset.ratios[0]
        curves: dict[str, list[list[tuple[int, float]]]] = {}
        for module in self.preset.modules:
            folders = [self.work.realigned(Run(module, ratio, seed)).parent for seed in self.preset.seeds]
            curves[module] = [next(iter(find_scalars(folder).values()))["train/loss"] for folder in folders]
        ends = {module: [tail(curve) for curve in each] for module, each in curves.items()}
        rows = [[module, *(f"{value:.3f}" for value in values)] for module, values in ends.items()]
        said = []
        if "qformer" in ends:
            apart = [high - low for high, low in zip(ends["qformer"], ends[self.first], strict=True)]
            verdict = "agrees" if min(apart) > 0 else "disagrees" if max(apart) < 0 else "cannot tell"
            ours = f"{', '.join(f'{value:+.3f}' for value in apart)} by seed".replace("-", "−")
            says = f"The loss of the Q-Former stays above that of {self.first}"
            said.append(judge.Claim("Figure 4", says, "higher", ours, verdict))
        head = ["module", *(f"seed {seed}" for seed in self.preset.seeds)]
        lead = f"Loss of re-alignment at ratio {ratio}; the table has its mean over the last fifth of the steps."
        return Section("Figure 4: loss by module", lead, head, rows, draw_losses(curves), "Loss over steps", said)

    def figure5(self) -> Section:
        """Tasks over the steps of a post-training."""
        ratio, seeds = self.preset.ratios[0], self.preset.seeds
        by_place = []
        for place in range(1, SNAPSHOTS + 1):
            end = f"-{place}" if place < SNAPSHOTS else ""
            by_place.append([self.scores(f"post-{Run(self.first, ratio, seed).name}{end}") for seed in seeds])
        last = by_place[-1]
        before = [difference(runs, last) for runs in by_place[:-1]]
        tasks = list(last[0])
        better, _ = judge.told_apart({f" at snapshot {place}": each for place, each in enumerate(before, 1)})
        rows = [score_row(f"snapshot {place}", runs) for place, runs in enumerate(by_place, 1)]
        verdict = "agrees" if better else "cannot tell"
        says = "Tasks rise and fall against each other: some were better at an earlier snapshot than at the last"
        ours = "; ".join(better) or "none by Holm's correction at 5 %"
        said = [judge.Claim("Figure 5", says, "shown", ours, verdict)]
        lead = (
            f"Scores of the five snapshots of post-training at ratio {ratio}, {len(seeds)} "
            f"seed{'s' if len(seeds) > 1 else ''}."
        )
        picture = draw_see_saw(by_place)
        return Section(
            "Figure 5: see-saw of tasks", lead, ["", "mean", *tasks], rows, picture, "Tasks over steps", said
        )

    def figure6(self) -> Section:
        """Where answers look, as `reproduce looks` drew it."""
        folder = self.work.output / "looks"
        found: dict[str, Any] = read_json(folder / "looks.json")
        pages = found["pages"]
        rows, likeness = [], []
        for page in pages:
            for model, its in page["models"].items():
                agreement = its["agreement_with_first"] or {}
                cells = [f"{agreement[key]:.2f}" if agreement.get(key) is not None else ""
                         for key in ("correlation", "overlap")]  # fmt: skip
                rows.append([f"{page['page']}: {model}", its["answer"].replace("\n", " / "), *cells])
                if agreement:
                    likeness.append(agreement["correlation"] or 0.0)
        lead = (
            "Attention of the answer's tokens to visual tokens, laid over the page, with its correlation to the "
            "teacher's and the share that the hottest tenths of the page have in common (0.1 by chance)."
        )
        ours = f"correlation {min(likeness):.2f} to {max(likeness):.2f} on {len(pages)} pages".replace("-", "−")
        verdict = judge.by_sign(likeness, len(pages))
        said = [judge.Claim("Figure 6", "Students look where the teacher looks", "shown", ours, verdict)]
        return Section(
            "Figure 6: where answers look",
            lead,
            ["page: model", "answer", "correlation", "overlap"],
            rows,
            (folder / "looks.png").read_bytes(),
            "Attention of answers laid over pages, teacher and students beside each other",
            said,
        )


def tail(curve: Sequence[tuple[int, float]]) -> float:
    """Return the mean of the last fifth of a curve."""
    values = [value for _, value in curve[-max(1, len(curve) // 5) :]]
    return sum(values) / len(values)
