"""Losses against literal double loops, in value and gradient."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from cvgeo.errors import UsageError
from cvgeo.losses import (
    HardExemplarReweightingLoss,
    InfoNCELoss,
    IoUSemiPositiveLoss,
    OffsetRegressionLoss,
    PairGeometry,
    SumLoss,
    WeightedSoftMarginTripletLoss,
    build_loss,
)
from cvgeo.losses.iou_semi_positive import tile_iou
from cvgeo.models.registry import build, names


def unit(batch: int, size: int, seed: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.randn(batch, size, generator=generator, dtype=torch.float64), dim=1).to(dtype)


def literal_soft_margin(ground: torch.Tensor, aerial: torch.Tensor, gamma: float, squared: bool) -> float:
    """Equation 17 over every triplet, one at a time."""
    total, count = 0.0, 0
    for anchors, others in ((ground, aerial), (aerial, ground)):
        for i in range(len(anchors)):
            for j in range(len(others)):
                if i == j:
                    continue
                positive, negative = ((anchors[i] - others[k]).pow(2).sum().item() for k in (i, j))
                if not squared:
                    positive, negative = math.sqrt(positive), math.sqrt(negative)
                total += math.log(1 + math.exp(gamma * (positive - negative)))
                count += 1
    assert count == 2 * len(ground) * (len(ground) - 1)
    return total / count


@settings(max_examples=25, deadline=None)
@given(
    batch=st.integers(2, 7),
    size=st.integers(2, 9),
    gamma=st.sampled_from([1.0, 10.0, 20.0]),
    squared=st.booleans(),
    seed=st.integers(0, 99),
)
def test_soft_margin_equals_the_double_loop(batch: int, size: int, gamma: float, squared: bool, seed: int) -> None:
    ground, aerial = unit(batch, size, seed), unit(batch, size, seed + 1000)
    loss = WeightedSoftMarginTripletLoss(gamma, distance="squared" if squared else "euclidean")
    assert loss(ground, aerial).item() == pytest.approx(literal_soft_margin(ground, aerial, gamma, squared), rel=1e-6)


@pytest.mark.parametrize("distance", ["squared", "euclidean"])
def test_soft_margin_gradient(distance: str) -> None:
    loss = WeightedSoftMarginTripletLoss(gamma=10.0, distance=distance)
    ground, aerial = (unit(4, 5, seed).requires_grad_() for seed in (1, 2))
    assert torch.autograd.gradcheck(loss, (ground, aerial))


def test_soft_margin_of_batch_of_eight_has_112_triplets_and_equal_distances_give_log_two() -> None:
    same = unit(1, 16, 0).expand(8, 16)
    assert WeightedSoftMarginTripletLoss()(same, same).item() == pytest.approx(math.log(2), abs=1e-9)


def test_soft_margin_falls_when_pairs_come_closer() -> None:
    ground, noise = unit(8, 32, 0), unit(8, 32, 1)
    values = [
        WeightedSoftMarginTripletLoss()(ground, functional.normalize(ground + spread * noise, dim=1)).item()
        for spread in (0.0, 0.5, 1.0, 4.0)
    ]
    assert values == sorted(values)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["weighted_soft_margin_triplet", "info_nce"])
def test_half_precision_stays_finite_and_near(name: str, dtype: torch.dtype) -> None:
    loss = build("loss", name, **({"gamma": 1000.0} if name != "info_nce" else {"temperature": 0.011}))
    ground, aerial = unit(6, 64, 3, dtype), -unit(6, 64, 3, dtype)
    ground.requires_grad_()
    value = loss(ground, aerial)
    value.backward()
    assert value.isfinite() and ground.grad.isfinite().all()
    assert value.item() == pytest.approx(loss(ground.detach().double(), aerial.double()).item(), rel=1e-3)


def test_autocast_does_not_lower_the_precision_of_similarities() -> None:
    ground, aerial = unit(6, 64, 3, torch.float32), unit(6, 64, 4, torch.float32)
    loss = WeightedSoftMarginTripletLoss()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = loss(ground, aerial)
    assert inside.item() == loss(ground, aerial).item()


def test_euclidean_gradient_is_finite_where_a_pair_coincides() -> None:
    ground = unit(4, 8, 0).requires_grad_()
    WeightedSoftMarginTripletLoss(distance="euclidean")(ground, ground.detach().clone()).backward()
    assert ground.grad.isfinite().all()


def literal_info_nce(ground: torch.Tensor, aerial: torch.Tensor, temperature: float, smoothing: float) -> float:
    total, batch = 0.0, len(ground)
    for anchors, others in ((ground, aerial), (aerial, ground)):
        for i in range(batch):
            logits = [(anchors[i] @ others[j]).item() / temperature for j in range(batch)]
            normaliser = math.log(sum(math.exp(value) for value in logits))
            for j in range(batch):
                target = (1 - smoothing) * (i == j) + smoothing / batch
                total -= target * (logits[j] - normaliser)
    return total / (2 * batch)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_info_nce_equals_the_double_loop(smoothing: float) -> None:
    ground, aerial = unit(5, 7, 1), unit(5, 7, 2)
    loss = InfoNCELoss(temperature=0.07, label_smoothing=smoothing)
    assert loss(ground, aerial).item() == pytest.approx(literal_info_nce(ground, aerial, 0.07, smoothing), rel=1e-6)


def test_info_nce_gradient_and_learned_temperature() -> None:
    loss = InfoNCELoss().double()
    ground, aerial = (unit(4, 5, seed).requires_grad_() for seed in (1, 2))
    assert torch.autograd.gradcheck(loss, (ground, aerial))
    loss(ground, aerial).backward()
    assert loss.logit_scale.grad is not None and loss.logit_scale.grad.abs() > 0
    assert not InfoNCELoss(learn_temperature=False).logit_scale.requires_grad


@pytest.mark.parametrize("name", ["weighted_soft_margin_triplet", "info_nce"])
def test_bad_batches_are_explained(name: str) -> None:
    loss = build("loss", name)
    with pytest.raises(UsageError, match="batch of one pair has no negatives; use a batch size of 2"):
        loss(unit(1, 4, 0), unit(1, 4, 1))
    with pytest.raises(UsageError, match=r"\(3, 4\) and \(2, 4\) do not pair up"):
        loss(unit(3, 4, 0), unit(2, 4, 1))


def test_unknown_distance_and_unknown_option() -> None:
    with pytest.raises(UsageError, match="distance = 'cosine'; squared or euclidean"):
        WeightedSoftMarginTripletLoss(distance="cosine")
    with pytest.raises(UsageError, match="unexpected keyword argument 'margin'"):
        build("loss", "info_nce", margin=1)
    with pytest.raises(UsageError, match="did you mean info_nce"):
        build("loss", "infonce")


def geometry(batch: int, size: int, seed: int, **more: object) -> PairGeometry:
    """Random offsets within the tile, semi-positive descriptors near the ground ones."""
    generator = torch.Generator().manual_seed(seed)
    offset = torch.rand(batch, 2, generator=generator, dtype=torch.float64) * 0.5 - 0.25
    semi = offset + torch.where(offset > 0, -0.5, 0.5) * torch.tensor([1.0, 0.0])
    given = {
        "offset": offset,
        "shown_offset": offset.flip(1),
        "semi_offset": semi,
        "semi_aerial": unit(batch, size, 77),
        "azimuth_columns": size,
    }
    return PairGeometry(**(given | more))


def allowed_pairs(batch: int, negatives: torch.Tensor | None) -> list[tuple[int, int]]:
    pairs = [(i, j) for i in range(batch) for j in range(batch) if i != j]
    return [(i, j) for i, j in pairs if negatives is None or bool(negatives[i, j])]


def some_negatives(batch: int, seed: int) -> torch.Tensor:
    mask = torch.rand(batch, batch, generator=torch.Generator().manual_seed(seed)) < 0.6
    return mask & mask.T


@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("mining", ["all", "hard"])
@pytest.mark.parametrize("masked", [False, True])
def test_soft_margin_of_masked_and_of_hard_negatives(squared: bool, mining: str, masked: bool) -> None:
    ground, aerial = unit(7, 5, 1), unit(7, 5, 2)
    negatives = some_negatives(7, 3) if masked else None
    total, count = 0.0, 0
    for anchors, others in ((ground, aerial), (aerial, ground)):
        for i in range(7):
            terms = []
            for j in (j for one, j in allowed_pairs(7, negatives) if one == i):
                near, far = ((anchors[i] - others[k]).pow(2).sum().item() for k in (i, j))
                near, far = (near, far) if squared else (math.sqrt(near), math.sqrt(far))
                terms.append(math.log(1 + math.exp(10 * (near - far))))
            kept = terms if mining == "all" else sorted(terms)[-1:]
            total, count = total + sum(kept), count + len(kept)
    loss = WeightedSoftMarginTripletLoss(distance="squared" if squared else "euclidean", mining=mining)
    assert loss.with_geometry(ground, aerial, PairGeometry(negatives=negatives)).item() == pytest.approx(
        total / count, rel=1e-6
    )


def literal_reweighting(
    ground: torch.Tensor, aerial: torch.Tensor, pairs: list[tuple[int, int]], margin: float, both: bool
) -> float:
    """The authors' steps for one triplet after the other, vectors taken five times."""
    total, count = 0.0, 0
    cut = margin * 25
    for anchors, others in ((ground, aerial), (aerial, ground))[: 2 if both else 1]:
        for i, j in pairs:
            near, far = ((5 * anchors[i] - 5 * others[k]).pow(2).sum().item() for k in (i, j))
            weight = -math.log2(1 / (1 + math.exp(near - far + cut / 2)))
            low, high = (-math.log2(1 / (1 + math.exp(gap + cut / 2))) for gap in (-cut, 0.0))
            if weight < low:
                weight = 0.1 / len(ground)
            weight = min(weight, high)
            total += weight * math.log(1 + math.exp(near - far))
            count += 1
    return total / count


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("margin", [0.02, 0.15, 1.0])
@pytest.mark.parametrize("masked", [False, True])
def test_hard_exemplar_reweighting_equals_the_literal_steps(both: bool, margin: float, masked: bool) -> None:
    ground, aerial = unit(8, 4, 1), functional.normalize(unit(8, 4, 1) + unit(8, 4, 2), dim=1)
    negatives = some_negatives(8, 3) if masked else None
    loss = HardExemplarReweightingLoss(margin, anchors="both" if both else "ground")
    expected = literal_reweighting(ground, aerial, allowed_pairs(8, negatives), margin, both)
    assert loss.with_geometry(ground, aerial, PairGeometry(negatives=negatives)).item() == pytest.approx(
        expected, rel=1e-6
    )


def test_reweighting_cuts_off_both_ends() -> None:
    loss = HardExemplarReweightingLoss(margin=0.4)
    easy, inside, at_zero, hard = loss.weights(torch.tensor([-10.5, -5.0, 0.0, 30.0]), batch=4).tolist()
    assert easy == pytest.approx(0.1 / 4)
    assert inside == pytest.approx(1.0)  # log2(1 + e^0), where the gap is minus half the margin
    assert at_zero == hard == pytest.approx(math.log2(1 + math.exp(5)))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_info_nce_passes_over_false_negatives(smoothing: float) -> None:
    ground, aerial, negatives = unit(6, 7, 1), unit(6, 7, 2), some_negatives(6, 4)
    total = 0.0
    for anchors, others in ((ground, aerial), (aerial, ground)):
        for i in range(6):
            candidates = [i] + [j for one, j in allowed_pairs(6, negatives) if one == i]
            logits = {j: (anchors[i] @ others[j]).item() / 0.07 for j in candidates}
            normaliser = math.log(sum(math.exp(value) for value in logits.values()))
            for j in candidates:
                target = (1 - smoothing) * (i == j) + smoothing / len(candidates)
                total -= target * (logits[j] - normaliser)
    loss = InfoNCELoss(label_smoothing=smoothing)
    assert loss.with_geometry(ground, aerial, PairGeometry(negatives=negatives)).item() == pytest.approx(
        total / 12, rel=1e-6
    )


def test_info_nce_scale_is_free_or_clamped() -> None:
    ground, aerial = unit(5, 7, 1), unit(5, 7, 2)
    hot = {"temperature": 0.001, "label_smoothing": 0.0}
    assert InfoNCELoss(**hot)(ground, aerial).item() == pytest.approx(
        literal_info_nce(ground, aerial, 0.01, 0), rel=1e-5
    )
    free = InfoNCELoss(**hot, clamp=False)(ground, aerial).item()
    gaps = [
        (anchors[i] @ others.T - anchors[i] @ others[i]).max().item() * 1000
        for anchors, others in ((ground, aerial), (aerial, ground))
        for i in range(5)
    ]
    assert free == pytest.approx(sum(gaps) / 10, rel=1e-3)
    assert InfoNCELoss().logit_scale.item() == pytest.approx(math.log(1 / 0.07))


def overlap_on_a_grid(offset: tuple[float, float], cells: int = 400) -> float:
    """Intersection over union of two unit squares, one displaced, counted in cells."""
    grid = (torch.arange(3 * cells, dtype=torch.float64) + 0.5) / cells - 1
    first = (grid > 0) & (grid < 1)
    inside = [first & (grid > move) & (grid < 1 + move) for move in offset]
    shared = int(inside[0].sum()) * int(inside[1].sum())
    return shared / (2 * cells**2 - shared)


@pytest.mark.parametrize("offset", [(0.0, 0.0), (0.25, -0.5), (-0.4, 0.1), (0.9, 0.9), (1.5, 0.0), (-2.0, -2.0)])
def test_overlap_of_tiles(offset: tuple[float, float]) -> None:
    assert tile_iou(torch.tensor([offset])).item() == pytest.approx(overlap_on_a_grid(offset), abs=1e-6)


def test_iou_loss_equals_the_published_code_row_by_row() -> None:
    ground, aerial = unit(6, 5, 1), functional.normalize(unit(6, 5, 1) + 0.3 * unit(6, 5, 2), dim=1)
    known = geometry(6, 5, 3)
    known.semi_offset[4] = float("nan")
    total = 0.0
    for i in (0, 1, 2, 3, 5):
        ious = []
        for delta in (known.offset[i] * 640, known.semi_offset[i] * 640):
            ious.append(1 / (1 - (1 - abs(delta[0]) / 640) * (1 - abs(delta[1]) / 640) / 2) - 1)
        similarity = [(ground[i] @ tiles[i]).item() for tiles in (aerial, known.semi_aerial)]
        total += (similarity[1] / similarity[0] - (ious[1] / ious[0]).item()) ** 2
    assert IoUSemiPositiveLoss().with_geometry(ground, aerial, known).item() == pytest.approx(total / 5, rel=1e-6)


def test_iou_loss_has_no_pole() -> None:
    ground = unit(2, 4, 0)
    opposite = -ground.clone().requires_grad_()
    loss = IoUSemiPositiveLoss().with_geometry(ground, opposite, geometry(2, 4, 1))
    assert 0 < loss.item() < 500


def test_offset_loss_equals_a_loop_and_predicts_in_shares_of_the_side() -> None:
    loss = build_loss("offset_regression", {"hidden": 6}, 5).double()
    ground, aerial, known = unit(4, 5, 1), unit(4, 5, 2), geometry(4, 5, 3)
    known.shown_offset[2] = float("nan")
    first, _, second = loss.head
    total = 0.0
    for i in (0, 1, 3):
        inputs = [*aerial[i].tolist(), *ground[i].tolist()]
        hidden = [
            max(0.0, sum(w * x for w, x in zip(row, inputs, strict=True)) + b)
            for row, b in zip(first.weight.tolist(), first.bias.tolist(), strict=True)
        ]
        for axis in range(2):
            output = sum(w * h for w, h in zip(second.weight[axis].tolist(), hidden, strict=True))
            output += second.bias[axis].item()
            total += (output - 2 * known.shown_offset[i, axis].item()) ** 2
            assert loss.predict(ground, aerial)[i, axis].item() == pytest.approx(output / 2)
    assert loss.with_geometry(ground, aerial, known).item() == pytest.approx(total / 3, rel=1e-6)


def test_the_offset_head_learns_where_a_camera_stands() -> None:
    torch.manual_seed(0)
    loss = build_loss("offset_regression", {"hidden": 16}, 8)
    ground, aerial = unit(16, 8, 1, torch.float32), unit(16, 8, 2, torch.float32)
    shown = geometry(16, 8, 3).shown_offset.float()
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.02)
    for _ in range(200):
        optimizer.zero_grad()
        loss.with_geometry(ground, aerial, PairGeometry(offset=shown, shown_offset=shown)).backward()
        optimizer.step()
    assert (loss.predict(ground, aerial) - shown).abs().max() < 0.05


TERMS = {
    "weighted_soft_margin_triplet": {"gamma": 5.0},
    "iou_semi_positive": {"weight": 0.1, "from_epoch": 2},
    "offset_regression": {"weight": 0.01, "from_epoch": 2, "hidden": 4},
}


def test_a_sum_counts_each_term_with_its_weight_from_its_epoch_on() -> None:
    total = build_loss("sum", {"terms": TERMS}, 5).double()
    ground, aerial = unit(4, 5, 1), unit(4, 5, 2)
    first = WeightedSoftMarginTripletLoss(5.0)(ground, aerial).item()
    assert total(ground, aerial).item() == pytest.approx(first)
    assert total.needs_at(1) == frozenset()
    assert total.needs_at(2) == {"semi_aerial", "offset"}
    known = geometry(4, 5, 3, epoch=2)
    expected = first + 0.1 * IoUSemiPositiveLoss().with_geometry(ground, aerial, known).item()
    expected += 0.01 * total.terms["offset_regression"].with_geometry(ground, aerial, known).item()
    assert total.with_geometry(ground, aerial, known).item() == pytest.approx(expected)


EVERY = {
    "weighted_soft_margin_triplet": [{}, {"mining": "hard"}, {"distance": "euclidean"}, {"similarity": "best_roll"}],
    "hard_exemplar_reweighting": [{}, {"anchors": "both", "margin": 0.5}],
    "info_nce": [{}, {"clamp": False, "label_smoothing": 0.0}],
    "iou_semi_positive": [{}],
    "offset_regression": [{"hidden": 3}],
    "turned_info_nce": [{}, {"label_smoothing": 0.1}],
    "sum": [{"terms": TERMS}],
}
CASES = [(name, options) for name, several in EVERY.items() for options in several]


def test_every_registered_loss_is_tried_here() -> None:
    assert sorted(EVERY) == names("loss")


@pytest.mark.parametrize(("name", "options"), CASES)
def test_every_loss_passes_gradcheck(name: str, options: dict) -> None:
    torch.manual_seed(0)
    loss = build_loss(name, options, 5).double()
    ground, aerial = (unit(4, 5, seed).requires_grad_() for seed in (1, 2))
    known = geometry(4, 5, 3, negatives=some_negatives(4, 1) | (torch.arange(4) == 0), epoch=2)
    assert torch.autograd.gradcheck(lambda *views: loss.with_geometry(*views, known), (ground, aerial))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_every_loss_stays_finite_in_half_precision(name: str, options: dict, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    loss = build_loss(name, options, 64)
    values = []
    for kind in (dtype, torch.float64):
        ground, aerial = unit(6, 64, 3, dtype).to(kind).requires_grad_(), -unit(6, 64, 3, dtype).to(kind)
        known = geometry(6, 64, 3, epoch=2, semi_aerial=unit(6, 64, 77, dtype).to(kind))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=kind == dtype):
            value = loss.to(torch.float32 if kind == dtype else kind).with_geometry(ground, aerial, known)
        value.backward()
        assert value.isfinite() and ground.grad.isfinite().all()
        values.append(value.item())
    assert values[0] == pytest.approx(values[1], rel=1e-2)


# A pair alone still teaches how it is turned.
@pytest.mark.parametrize(("name", "options"), [case for case in CASES if case[0] != "turned_info_nce"])
def test_a_batch_without_any_negative_or_known_offset_teaches_nothing(name: str, options: dict) -> None:
    loss = build_loss(name, options | ({"label_smoothing": 0.0} if name == "info_nce" else {}), 5).double()
    ground, aerial = (unit(4, 5, seed).requires_grad_() for seed in (1, 2))
    unknown = torch.full((4, 2), float("nan"), dtype=torch.float64)
    nothing = {"negatives": torch.zeros(4, 4, dtype=torch.bool), "offset": unknown}
    value = loss.with_geometry(
        ground, aerial, geometry(4, 5, 3, shown_offset=unknown, semi_offset=unknown, epoch=2, **nothing)
    )
    value.backward()
    assert value.item() == 0
    assert not ground.grad.any() and not aerial.grad.any()


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("iou_semi_positive", {}, "needs semi-positive tiles"),
        ("offset_regression", {}, "needs the offsets of the panoramas"),
        ("weighted_soft_margin_triplet", {"similarity": "best_roll"}, "needs descriptors of azimuth columns"),
    ],
)
def test_what_a_loss_needs_is_asked_for(name: str, options: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        build_loss(name, options, 4)(unit(3, 4, 0), unit(3, 4, 1))


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("weighted_soft_margin_triplet", {"similarity": "roll"}, "similarity = 'roll'; inner or best_roll"),
        ("weighted_soft_margin_triplet", {"mining": "semi"}, "mining = 'semi'; all or hard"),
        ("hard_exemplar_reweighting", {"anchors": "aerial"}, "anchors = 'aerial'; ground or both"),
        ("hard_exemplar_reweighting", {"margin": 0}, "must be above 0"),
        ("sum", {"terms": {}}, "a table of tables"),
        ("sum", {"terms": ["info_nce"]}, "a table of tables"),
        ("sum", {"terms": {"info_nce": 1}}, "a table of tables"),
        ("sum", {"terms": {"info_nce": {"weight": "much"}}}, "could not convert string to float: 'much'"),
        ("info_nce", {"temperature": 0}, "temperature = 0, label_smoothing = 0.1"),
        ("info_nce", {"label_smoothing": 1}, "temperature = 0.07, label_smoothing = 1"),
        ("weighted_soft_margin_triplet", {"gamma": "steep"}, "could not convert string to float: 'steep'"),
        ("offset_regression", {"hidden": 0}, "hidden = 0"),
        ("sum", {"terms": {"info_nse": {}}}, "did you mean info_nce"),
        ("sum", {"terms": {"info_nce": {"from_epoch": 1}}}, "no loss counts in the first epoch"),
    ],
)
def test_options_that_make_no_sense(name: str, options: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        build("loss", name, **options)


def test_a_head_without_a_size_says_so() -> None:
    with pytest.raises(UsageError, match="call prepare"):
        OffsetRegressionLoss().predict(unit(3, 4, 0), unit(3, 4, 1))


def test_the_sum_keeps_its_parts_parameters() -> None:
    total = SumLoss({"info_nce": {}, "offset_regression": {"hidden": 2}})
    total.prepare(3)
    assert len(list(total.parameters())) == 5
