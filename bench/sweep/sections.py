"""The sections of a sweep file, each a frozen model with every default."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal, TypeVar, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from bench.sweep.keys import unknown_key

MT_BENCH = "mt_bench"
"""The name of MT-Bench's set of open questions."""


TemplateName = Literal["alpaca", "chat"]

Item = TypeVar("Item")


def _as_tuple(value: object) -> object:
    """A single value as a tuple of one; null stays."""
    return value if value is None or isinstance(value, (list, tuple)) else (value,)


OneOrMore = Annotated[tuple[Item, ...], BeforeValidator(_as_tuple)]
"""A list that may be written as a single value."""

Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""What numpy takes."""
LearningRate = Annotated[float, Field(ge=1e-12, le=1000)]
Rank = Annotated[int, Field(ge=1, le=10**6)]
Examples = Annotated[int, Field(ge=0, le=10**9)]
SampleSize = Annotated[int, Field(ge=1, le=10**9)]
Average = Literal["auto", "all"] | OneOrMore[str]
"""Which tasks the averages are over."""
Minutes = Annotated[float, Field(gt=0, le=1e6)]


def json_values(value: object) -> object:
    """Settings as JSON has them: tuples, ranges and arrays become lists, paths texts, numbers of numpy Python's."""
    return TypeAdapter(object).dump_python(value, mode="json", fallback=_plain)


def _plain(value: object) -> object:
    if hasattr(value, "tolist"):  # an array, a column of a table, or a number of them
        return value.tolist()
    return list(value) if isinstance(value, range) else str(value).removeprefix("torch.")


class Strict(BaseModel):
    """Frozen, and an unknown key is refused with the nearest known one."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: object) -> object:
        if isinstance(data, dict):
            for key in data:
                if key not in cls.model_fields:
                    raise ValueError(unknown_key(key, cls.model_fields))
        return data

    @field_validator("*", mode="before")
    @classmethod
    def _no_boolean_as_number(cls, value: object, info: ValidationInfo) -> object:
        values = value if isinstance(value, (list, tuple)) else (value,)
        if any(isinstance(item, bool) for item in values):
            annotation = cls.model_fields[str(info.field_name)].annotation
            if not _mentions(annotation, bool):
                raise ValueError("true and false are not possible here")
        return value


def _mentions(annotation: object, kind: type) -> bool:
    """Whether a type is `kind`, or has it as a part."""
    return annotation is kind or any(_mentions(part, kind) for part in get_args(annotation))


class BaseModelConfig(Strict):
    """The model that every cell starts from."""

    id: str
    """An alias of a packaged model, a folder, or a hub id."""
    revision: str | None = None
    """Branch, tag or commit of a hub id."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """What forward passes compute in; `auto`: bfloat16 where the device has it, else float32."""
    trust_remote_code: bool = False
    """Run the Python code that the model's folder or repository brings (`auto_map`). Read the code first: it can do all
    that you can."""


class OwnSet(Strict):
    """One's own data: files or a hub data set, and which column is what. A set that the sweep does not use is an
    error."""

    train: str | None = None
    """A file (JSONL, JSON, CSV, TSV or parquet), or a split of the hub data set."""
    test: str | None = None
    """The same, for evaluation."""
    hub: str | None = None
    """Hub data set `owner/name`; then `train` and `test` name its splits."""
    config: str | None = None
    """Configuration of the hub data set."""
    revision: str | None = None
    """Its revision."""
    columns: dict[str, str | list[str]] = Field(default_factory=dict)
    """question, choices (a column, or several), label - or, to train on only: prompt and answer; instruction, output
    and maybe input and system; messages (a chat) and maybe system. `outer.inner` is a key of an object. Default:
    guessed from the names of the columns, as the plan says."""
    label_from: Literal[0, 1] | None = None
    """What a numeric label counts from. Default: what fits all labels of the set. Labels may also be letters (A, B,
    ...) or a choice's own text."""

    @field_validator("columns")
    @classmethod
    def _columns(cls, columns: dict[str, str | list[str]]) -> dict[str, str | list[str]]:
        required = ({"question", "choices", "label"}, {"prompt", "answer"}, {"instruction", "output"}, {"messages"})
        optional = {"instruction": {"input", "system"}, "messages": {"system"}}
        given = set(columns)
        for parts in required:
            extra = set().union(*(optional.get(part, set()) for part in parts))
            if parts <= given <= parts | extra:
                break
        else:
            if columns:
                raise ValueError(
                    f"columns maps {', '.join(sorted(columns))}; give question, choices and label, or prompt and "
                    "answer, or instruction, output and maybe input and system, or messages and maybe system"
                )
        for part, column in columns.items():
            names = column if isinstance(column, list) else [column]
            if not names or not all(names) or (isinstance(column, list) and part not in ("question", "choices")):
                raise ValueError(f"columns.{part} must name one column, got {column!r}; only choices may be several")
        return columns


class DataConfig(Strict):
    """What the methods learn from."""

    train: OneOrMore[str] = ("world",)
    """Training sets: `world` (built in), `commonsense` (the eight tasks), names of tasks or of own sets, files (a set
    each, named after the file); of instructions `alpaca` and `world_talk` (built in)."""
    dir: str | None = None
    """A folder of LLM-Adapters' JSON (`<task>/train.json`, `test.json`); without it, the hub."""
    alpaca: str | None = None
    """A JSON or JSONL file of Alpaca's rows; without it, the hub's cleaned Alpaca."""
    template: TemplateName = "alpaca"
    """How instructions are put into words, in training and in answering: Alpaca's template, or the one that the base
    model's tokenizer comes with."""
    held_out: Examples = 200
    """Instructions that are never trained on, over all sets of instructions, drawn by `seed`: to be answered."""
    sets: dict[str, OwnSet] = Field(default_factory=dict)
    """Own data sets by name."""
    format: Literal["question", "lm_eval", "llm_adapters", "loreft"] = "question"
    """How a question is put into words, in training and in scoring: `question` in one way for all tasks, `lm_eval` as
    lm-eval's task of the same questions, `llm_adapters` and `loreft` as these authors."""
    mix: Literal["equal", "proportional"] = "equal"
    """How several training sets share the samples. Equal, because BoolQ is otherwise half of everything."""
    subset_seed: Seed | None = None
    """Fixes the training subset for all seeds, where only optimisation noise is wanted."""
    seed: Seed = 20240
    """Draws the development split and every question limit, before anything else; no cell changes it."""
    development: Examples = 500
    """Questions held out of the training sets for choices that must not be made on the test set."""
    deduplicate: bool = True
    """Remove training rows whose question is in a test or development set."""
    append_eos: bool = True
    """End every training answer with the end-of-text token."""


class ValidationConfig(Strict):
    """Validation in training; the cell keeps the weights of the lowest loss instead of the last ones."""

    examples: int = Field(120, ge=1, le=10**9)
    """Of each cell's samples: held out of its training, drawn by its seed."""
    steps: int = Field(80, ge=1, le=10**9)
    """Optimizer steps between two validations; there is one after the last step, too."""


class TrainingConfig(Strict):
    """How every method is trained. The learning rate belongs to the method: one rate for all would decide the
    ranking (arXiv 2602.04998)."""

    NOT_IDENTITY: ClassVar[frozenset[str]] = frozenset(
        {
            "micro_batch",
            "devices",
            "parallel",
            "packed",
            "gradient_checkpointing",
            "compile",
            "logging_steps",
            "checkpoint_minutes",
            "report_to",
        }
    )

    epochs: float = Field(1.0, ge=0.001, le=10_000)
    """Passes over the examples; a part of one is possible."""
    batch_size: int = Field(16, ge=1, le=100_000)
    """Examples per optimizer step, whatever the micro-batch."""
    micro_batch: int | None = Field(None, ge=1, le=100_000)
    """Examples per forward pass of a device; the rest is gradient accumulation. Must divide batch_size / devices.
    Default: all at once. Halved by itself when memory runs out."""
    devices: int = Field(1, ge=1, le=1024)
    """GPUs that one cell is trained on, a process each (processes of the CPU where there is no GPU). They share each
    batch: must divide batch_size."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """How several devices hold the model: each the whole of it (DDP), or each a part of every layer (FSDP)."""
    order: Literal["length", "random"] = "length"
    """Which examples make a batch: those of like length, drawn from about 50 batches at a time (hardly any padding is
    computed), or any. A function of the seed alone, the same for all methods."""
    packed: bool = False
    """Lay the examples of a forward pass end to end in one row instead of filling each up to the longest; they do not
    see one another, and losses stay what they are. It pays with `order: random` and examples of very unlike length.
    Dropout draws other masks."""
    max_length: int = Field(256, ge=8, le=10**7)
    """Tokens of an example; longer ones are cut (see truncate). The plan and the report say how many. At most what the
    base model reads."""
    truncate: Literal["start", "end"] = "start"
    """Where an example that is too long is cut: at the beginning of its prompt, as in scoring, or at its end, which is
    the answer's (LLM-Adapters)."""
    schedule: Literal["linear", "cosine"] = "linear"
    warmup_ratio: float = Field(0.1, ge=0, lt=1)
    """Share of the steps in which the learning rate rises."""
    warmup_steps: int | None = Field(None, ge=0, le=10**9)
    """The same in steps; wins over warmup_ratio."""
    weight_decay: float = Field(0.0, ge=0, le=100)
    """AdamW's: a step takes this share of the learning rate from each weight."""
    max_grad_norm: float = Field(1.0, ge=1e-9, le=1e9)
    """The norm of all gradients together to which a larger one is scaled down."""
    loss: Literal["answer", "all"] = "answer"
    """Supervise the answer's tokens only, or the prompt's too. It changes rankings, so it is stored."""
    validation: ValidationConfig | None = None
    """Default: none, and a cell's weights are those of its last step."""
    attn_implementation: Literal["sdpa", "eager", "flash_attention_2", "flash_attention_3"] = "sdpa"
    gradient_checkpointing: bool = False
    """Keep the layers' inputs only and compute each layer again on the way back: less memory, about a third slower."""
    compile: bool = False
    """`torch.compile` the model's layers, once for rows of any length. It pays on a GPU in long trainings; compiling
    takes a minute or two. Compiled dropout draws other masks."""
    logging_steps: int | None = Field(None, ge=1, le=10**9)
    """Steps between two lines of training.jsonl; default: about 50 lines a cell."""
    checkpoint_minutes: float | None = Field(15.0, ge=0, le=1e6)
    """Minutes between two checkpoints of a training, from which a killed cell resumes (on one device); null: none."""
    report_to: OneOrMore[Literal["tensorboard", "wandb", "mlflow", "trackio"]] = ()
    """Trackers that a training reports to besides training.jsonl."""

    @field_validator("report_to", mode="before")
    @classmethod
    def _none_is_empty(cls, value: object) -> object:
        return () if value in (None, "none") else value

    @model_validator(mode="before")
    @classmethod
    def _rate_is_the_methods(cls, data: object) -> object:
        if isinstance(data, dict) and {"lr", "learning_rate"} & set(data):
            raise ValueError("the learning rate is set per method, e.g. methods: [{method: lora, lr: 3e-4}]")
        return data

    @model_validator(mode="after")
    def _divides(self) -> TrainingConfig:
        if self.micro_batch and self.batch_size % self.micro_batch:
            raise ValueError(f"micro_batch {self.micro_batch} does not divide batch_size {self.batch_size}")
        if self.batch_size % self.devices:
            fitting = [n for n in range(1, self.batch_size + 1) if self.batch_size % n == 0 and n <= self.devices]
            raise ValueError(
                f"{self.devices} devices cannot share a batch_size of {self.batch_size} equally; set devices to "
                f"{fitting[-1]}, or batch_size to {self.batch_size + self.devices - self.batch_size % self.devices}"
            )
        if self.micro_batch and self.per_device % self.micro_batch:
            raise ValueError(
                f"micro_batch {self.micro_batch} does not divide the {self.per_device} examples that each of "
                f"{self.devices} devices has of a batch_size of {self.batch_size}; leave it out, or set a divisor"
            )
        if self.validation and self.devices > 1:
            raise ValueError("validation is for one device; set devices to 1, or leave validation out")
        if self.packed and self.devices > 1:
            raise ValueError("packed: true is for one device; set devices to 1, or packed to false")
        if self.parallel == "fsdp" and self.devices == 1:
            raise ValueError("parallel: fsdp shards over several devices; set devices to 2 or more, or leave it out")
        return self

    @property
    def per_device(self) -> int:
        """Examples of a batch that each device has."""
        return self.batch_size // self.devices


LM_EVAL = "lm_eval:"
"""What the name of a task of lm-eval's own begins with."""


class EvaluationConfig(Strict):
    """How every cell is scored."""

    tasks: OneOrMore[str] | None = None
    """Default: the tasks of the training sets. A file of questions is a task; `lm_eval:NAME` is a multiple-choice task
    of lm-eval's own."""
    limit: int | None = Field(None, ge=1, le=10**9)
    """Questions per task: a seeded sample, the same for every cell; never the first N."""
    protocol: str | tuple[str, ...] = "loglikelihood"
    """How a question becomes a score: `loglikelihood`, `llm-adapters-v1`, `loreft-v1` or `generative-v2`. Of several,
    each scores every task, and averages are made of the first one's scores."""
    merge: Literal["always", "never"] = "always"
    """Fold the adapter into the base before scoring (in float32, rounded once) where the method can."""
    batch_size: int | None = Field(None, ge=1, le=100_000)
    """Rows per forward pass at most; default: as many as fit the device. Changes no identity."""

    @field_validator("protocol")
    @classmethod
    def _any(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if not value:
            raise ValueError("at least one protocol is needed, e.g. loglikelihood")
        return value

    @property
    def of_lm_eval(self) -> tuple[str, ...]:
        """The tasks that are lm-eval's own, each once."""
        return tuple(dict.fromkeys(name for name in self.tasks or () if name.startswith(LM_EVAL)))

    @property
    def protocols(self) -> tuple[str, ...]:
        """All of them, each once."""
        return (self.protocol,) if isinstance(self.protocol, str) else tuple(dict.fromkeys(self.protocol))


class OpenSet(Strict):
    """One's own questions to be answered in words."""

    questions: str | None = None
    """A JSONL file in FastChat's format: question_id, category, turns and maybe reference. Of `mt_bench` it may be left
    out: then they come from the hub."""
    references: str | None = None
    """Reference answers, a JSONL file in FastChat's answer format (MT-Bench's: reference_answer/gpt-4.jsonl)."""


class AnswersConfig(Strict):
    """Open questions that every cell answers; judges score the answers (`bench judge`)."""

    questions: OneOrMore[str] = ("held_out",)
    """`held_out` (the instructions that `data.held_out` keeps from training), `mt_bench` (from the hub), `world_talk`
    (built in) or names of `sets`."""
    sets: dict[str, OpenSet] = Field(default_factory=dict)
    """Files of questions by name; `mt_bench` among them takes the hub's place."""
    limit: int | None = Field(None, ge=1, le=10**9)
    """Questions of each set: a seeded sample, the same for every cell."""
    with_reference: bool = False
    """Ask only what has a reference answer, which is all that the offline judge can score."""
    temperature: Literal["greedy", "fastchat"] = "greedy"
    """How tokens are chosen: the likeliest, or as FastChat does by category (0.7 for writing and roleplay, 0.1 for stem
    and humanities, 0.7 for categories that it does not know, the likeliest for the others), seeded by cell and
    question."""
    max_new_tokens: int = Field(1024, ge=1, le=10**7)
    """Tokens of an answer at most; FastChat's 1,024."""

    @field_validator("sets")
    @classmethod
    def _named(cls, sets: dict[str, OpenSet]) -> dict[str, OpenSet]:
        for name, open_set in sets.items():
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) or name in ("held_out", "world_talk"):
                raise ValueError(f"{name!r} cannot name a set: letters, digits and ._-, and no built-in set's name")
            if open_set.questions is None and name != MT_BENCH:
                raise ValueError(f"answers.sets.{name} needs questions, a file")
        return sets


TIE_SHARE = 0.2
"""A tenth of the gain would call nearly nothing a tie, a half would call a method that learns half as much one."""


class ReportConfig(Strict):
    """How cells are compared. Nothing of a cell: `bench run` with another choice only writes the report anew."""

    baseline: str | None = None
    """The method that the others are compared with. Default: LoRA, else the first that has a rank."""
    baseline_rank: Rank | None = None
    """A rank of the baseline that every setting is compared with, whatever its own, besides the baseline's at an equal
    rank. Default: at equal ranks only, or, where no method has two ranks, each at its own."""
    tie_margin: float = Field(1.0, ge=0, le=100)
    """Points at most: two methods whose difference is shown to be smaller than this are a tie."""
    tie_share: float | None = Field(TIE_SHARE, gt=0, le=1)
    """The margin of a tie as a share of what training gains: the accuracy of the baseline's best setting less that of
    the untuned model; `tie_margin` where that is less. `null`: `tie_margin` whatever the gain."""
    average: Average = "auto"
    """The tasks that averages, and all comparisons, are over: `all`, a list of tasks, or `auto`, which is all but those
    near chance: tasks with a fixed set of labels (true or false, say) of which neither the untuned model nor the
    trained ones together answer more than the commonest label does. A near-chance task stays in the tables."""

    @field_validator("tie_margin")
    @classmethod
    def _some_margin(cls, margin: float) -> float:
        if not margin >= 1e-6:
            raise ValueError("a margin of 0 points leaves no ties; give the largest difference that does not matter")
        return margin

    @model_serializer(mode="wrap")
    def _without_new_keys(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Sweep files from before these settings existed have no keys for them."""
        content: dict[str, object] = handler(self)
        if self.tie_share == TIE_SHARE:
            content.pop("tie_share", None)
        if self.average == "auto":
            content.pop("average", None)
        return content
