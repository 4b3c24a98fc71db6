"""Is a block where a search over all others would put it, and found without looking at them all?"""

from __future__ import annotations

import random

import pytest

from pellucid.passes.packing import Block, _Stretches, fullest_node, pack

SEEDS = range(20)


@pytest.mark.parametrize("seed", SEEDS)
def test_blocks_lie_where_a_search_over_all_others_puts_them(seed: int) -> None:
    blocks = some_blocks(seed, 120)
    arena = pack(blocks)
    found = [block.offset for block in blocks]
    where, _ = fullest_node(blocks)
    first = [0 if block.first <= where <= block.last else 1 for block in blocks]
    ways = [searched_offsets(blocks, [0] * len(blocks)), searched_offsets(blocks, first)]
    sizes = [max(at + b.bytes for at, b in zip(way, blocks, strict=True)) for way in ways]
    assert found == ways[sizes[1] < sizes[0]]
    assert arena == max(block.offset + block.bytes for block in blocks)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_arena_is_smaller_than_what_is_in_use_at_once(seed: int) -> None:
    blocks = some_blocks(seed, 120)
    node, used = fullest_node(blocks)
    at_each = [
        sum(block.bytes for block in blocks if block.first <= at <= block.last)
        for at in range(max(block.last for block in blocks) + 1)
    ]
    assert (node, used) == (at_each.index(max(at_each)), max(at_each))
    assert pack(blocks) >= used


def test_blocks_in_use_one_after_the_other_share_their_bytes() -> None:
    blocks = [Block(64, at, at) for at in range(50)]
    assert pack(blocks) == 64


def test_what_lives_long_and_nests_leaves_no_gaps() -> None:
    # As the residuals of a forward pass, needed in reverse.
    blocks = [Block(64 * (1 + at % 3), at, 99 - at) for at in range(50)]
    assert pack(blocks) == fullest_node(blocks)[1]


def test_a_gap_below_what_is_in_use_at_the_fullest_is_avoided() -> None:
    # The largest first leaves 64 bytes free below the second block while three are in use.
    spans = [(128, 4, 7), (128, 2, 4), (128, 1, 1), (192, 4, 5), (128, 1, 2)]
    blocks = [Block(*span) for span in spans]
    assert (
        max(at + b.bytes for at, b in zip(searched_offsets(blocks, [0] * 5), blocks, strict=True))
        == 512
    )
    assert pack(blocks) == fullest_node(blocks)[1] == 448


def test_nothing_to_place_takes_nothing() -> None:
    assert pack([]) == 0
    assert fullest_node([]) == (0, 0)
    assert pack([Block(0, 0, 3), Block(0, 1, 1)]) == 0


def test_four_times_the_blocks_take_little_more_than_four_times_the_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps = 0

    def counted(function):
        def run(*arguments):
            nonlocal steps
            steps += 1
            return function(*arguments)

        return run

    for name in ("take", "free_from"):
        monkeypatch.setattr(_Stretches, name, counted(getattr(_Stretches, name)))
    taken: list[int] = []
    for count in (500, 2000):
        steps = 0
        # Half of them overlap most others, which a search over all would look at each time.
        pack([Block(64, at, 2 * count - at if at % 2 else at + 2) for at in range(count)])
        taken.append(steps)
    # Linear gives 4, the logarithm of the nodes a little more, all pairs 16.
    assert taken[1] < 6 * taken[0]


def some_blocks(seed: int, count: int) -> list[Block]:
    """Blocks of mixed sizes (some of none), most of them in use briefly."""
    draw = random.Random(seed)
    blocks: list[Block] = []
    for _ in range(count):
        first = draw.randrange(count)
        last = first + int(draw.expovariate(1 / (3 if draw.random() < 0.7 else 40)))
        blocks.append(Block(draw.choice([0, 64, 100, 1000, 4096, 70_000]), first, last))
    return blocks


def searched_offsets(blocks: list[Block], rank: list[int]) -> list[int]:
    """The lowest free offset of each, by rank and the largest first, by looking at all placed."""
    placed: dict[int, tuple[int, Block]] = {}
    order = sorted(range(len(blocks)), key=lambda n: (rank[n], -blocks[n].bytes, blocks[n].first))
    for number in order:
        block = blocks[number]
        at = 0
        for offset, other in sorted(placed.values(), key=lambda pair: pair[0]):
            if other.bytes and other.first <= block.last and block.first <= other.last:
                if offset - at >= block.bytes:
                    break
                at = max(at, offset + other.bytes)
        placed[number] = at, block
    return [placed[number][0] for number in range(len(blocks))]
