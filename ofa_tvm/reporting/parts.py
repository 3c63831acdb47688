"""What a page is made of: sections of typed parts. Each kind of part has one template of its name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from ofa_tvm.support.amounts import Amount

Tone = Literal["plain", "good", "bad", "warn"]


@dataclass(frozen=True)
class Note:
    """A paragraph."""

    kind: ClassVar[str] = "note"
    text: str
    tone: Tone = "plain"


@dataclass(frozen=True)
class Column:
    """A column of a table: what it is called, in what unit, and whether it holds words (many: wide) or numbers.

    ``file_unit`` is the unit of a downloaded file where each cell shows its own; with ``has_bounds`` the file has the
    cells' bounds, too.

    ``note`` explains its name to who asks.
    """

    label: str
    unit: str = ""
    is_text: bool = False
    is_wide: bool = False
    file_unit: str = ""
    has_bounds: bool = False
    note: str = ""

    @property
    def css(self) -> str:
        """Its class in the page."""
        return "text wide" if self.is_wide else "text" if self.is_text else ""

    @property
    def name(self) -> str:
        """Label and unit, as a downloaded file has them."""
        unit = self.unit or self.file_unit
        return f"{self.label} ({unit})" if unit else self.label

    @property
    def bound_names(self) -> tuple[str, str]:
        """Likewise of the bounds."""
        return f"{self.label}, at least ({self.file_unit})", f"{self.label}, at most ({self.file_unit})"


@dataclass(frozen=True)
class Cell:
    """A cell: what is shown, and the value that it is sorted and downloaded by.

    ``bar`` is a share from 0 to 1; ``bounds`` are those of the value, where its column has them.
    """

    text: str
    value: float | str | None = None
    bar: float | None = None
    is_code: bool = False
    bounds: tuple[float, float] | None = None

    @property
    def raw(self) -> str:
        """The value as the page holds it: numbers with six digits."""
        return f"{self.value:.6g}" if isinstance(self.value, float) else str(self.value)


def amount_cell(amount: Amount) -> Cell:
    """An amount with its bounds."""
    return Cell(amount.text, amount.value, bounds=(amount.low, amount.high))


@dataclass(frozen=True)
class Table:
    """A table that can be sorted and downloaded. ``name`` is that of the file; ``last`` is a row that stays below."""

    kind: ClassVar[str] = "table"
    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    last: tuple[Cell, ...] = ()


@dataclass(frozen=True)
class Line:
    """A line through points (per cent of the plot's width and height, from the top left)."""

    points: tuple[tuple[float, float], ...]
    series: int = 0
    style: Literal["solid", "dashed", "faint"] = "solid"

    @property
    def path(self) -> str:
        """The points as SVG writes them."""
        return " ".join(f"{x:.2f},{y:.2f}" for x, y in self.points)


@dataclass(frozen=True)
class Mark:
    """One thing at a place (per cent, as in ``Line``), with what is told of it.

    ``low`` and ``high`` are the ends of an interval to its left and right. A subnet that ``tip`` names can be pinned.
    """

    x: float
    y: float
    tip: str
    shape: Literal["dot", "ring", "square", "diamond"] = "dot"
    series: int = 0
    label: str = ""
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Rule:
    """A vertical line at a place, with its label; ``level`` 1 stands above its neighbour's."""

    x: float
    label: str
    level: int = 0


@dataclass(frozen=True)
class LegendEntry:
    """What a shape or a colour means."""

    label: str
    shape: Literal["dot", "ring", "square", "diamond", "line", "dashed", "swatch"] = "swatch"
    series: int = 0


@dataclass(frozen=True)
class Plot:
    """A drawing with two axes; ticks are (per cent, label).

    Subnets can be pinned where ``pin_commands`` has, for each series, the command that deploys one: it ends in
    ``--subnet``, after which the page writes the subnet's key.
    """

    kind: ClassVar[str] = "plot"
    name: str
    title: str
    description: str
    x_label: str
    y_label: str
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    lines: tuple[Line, ...] = ()
    marks: tuple[Mark, ...] = ()
    rules: tuple[Rule, ...] = ()
    legend: tuple[LegendEntry, ...] = ()
    is_large: bool = False
    pin_commands: tuple[str, ...] = ()

    @property
    def can_pin(self) -> bool:
        """Whether a click keeps a mark."""
        return bool(self.pin_commands)


@dataclass(frozen=True)
class Fact:
    """A line of a card: what it is, its value, and in small type how it came about.

    ``command`` is what would find out a value that is not known.
    """

    label: str
    value: str
    note: str = ""
    command: str = ""


@dataclass(frozen=True)
class Card:
    """One pick."""

    anchor: str
    title: str
    subtitle: str
    value: str
    unit: str
    value_label: str
    verdict: str
    tone: Tone
    facts: tuple[Fact, ...]
    unknown: tuple[Fact, ...]
    code: str
    series: int = 0


@dataclass(frozen=True)
class Cards:
    """Cards beside each other."""

    kind: ClassVar[str] = "cards"
    cards: tuple[Card, ...]


@dataclass(frozen=True)
class Shape:
    """A block of a drawn network, in pixels; ``lines`` of text stand in it, ``below`` under it."""

    x: float
    y: float
    height: float
    inner: float
    css: str
    lines: tuple[str, ...]
    below: tuple[str, ...]
    tip: str
    differs: bool = False


@dataclass(frozen=True)
class Network:
    """A drawn network: its blocks and the names of its stages, each with its first and last pixel."""

    title: str
    note: str
    shapes: tuple[Shape, ...]
    stages: tuple[tuple[str, float, float], ...]


@dataclass(frozen=True)
class Drawing:
    """Networks one below the other, on the same columns."""

    kind: ClassVar[str] = "drawing"
    width: float
    height: float
    base: float
    networks: tuple[Network, ...]


@dataclass(frozen=True)
class Slice:
    """A share (0 to 1) of a bar; ``group`` decides its colour."""

    label: str
    share: float
    group: int
    tip: str


@dataclass(frozen=True)
class TimeBar:
    """A whole divided into slices."""

    kind: ClassVar[str] = "bar"
    title: str
    slices: tuple[Slice, ...]
    legend: tuple[LegendEntry, ...]


@dataclass(frozen=True)
class Range:
    """A value with its spread on a scale from 0 to 1, as per cent; ``texts`` are value and spread in words."""

    label: str
    note: str
    low: float
    middle: float
    high: float
    texts: tuple[str, str]
    tone: Tone = "plain"


@dataclass(frozen=True)
class Ranges:
    """Values with their spreads on one scale, with a line at what counts as equal."""

    kind: ClassVar[str] = "ranges"
    title: str
    equal: float
    equal_label: str
    ranges: tuple[Range, ...]


@dataclass(frozen=True)
class MatrixCell:
    """A cell of a matrix: the largest text, others below, and how dark it is (0 to 1)."""

    text: str
    notes: tuple[str, ...]
    weight: float


@dataclass(frozen=True)
class Matrix:
    """Rows against columns."""

    kind: ClassVar[str] = "matrix"
    caption: str
    corner: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[MatrixCell, ...]], ...]


@dataclass(frozen=True)
class Commands:
    """Command lines to copy, each with what it does."""

    kind: ClassVar[str] = "commands"
    commands: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Facts:
    """A list of names and values."""

    kind: ClassVar[str] = "facts"
    facts: tuple[Fact, ...]


Part = Note | Table | Plot | Cards | Drawing | TimeBar | Ranges | Matrix | Commands | Facts


@dataclass(frozen=True)
class Fold:
    """Parts that can be folded away."""

    kind: ClassVar[str] = "fold"
    title: str
    parts: tuple[Part, ...]
    is_open: bool = False


@dataclass(frozen=True)
class Section:
    """A question that the page answers. ``short`` is its name in the list of sections."""

    anchor: str
    title: str
    short: str
    parts: tuple[Part | Fold, ...] = field(default=())
