"""Labels that come later, in a table of their own, are learned from as those of the table."""

# pylint: disable=missing-function-docstring

import pandas as pd
import pytest

from Codes.ground.errors import WorkbookError
from Codes.problems import data, late_labels, problem as problems

FILE = """
title: Does it sell?
task: classification
source: {path: shop.csv}
target: sold
exclude: {order: identity}
split: {kind: random, test_share: 0.25}
metric: {name: roc_auc, direction: maximize}
monitoring: {labels: {path: labels.csv, key: [order]}}
"""


@pytest.fixture(name="shop")
def fixture_shop(tmp_path):
    """A problem of 40 orders, of which the first 10 have their target in the table, and 30 in the labels."""
    orders = pd.DataFrame({"order": range(40), "price": [n * 0.5 for n in range(40)]})
    sold = pd.Series(["yes", "no"] * 20)
    orders.assign(sold=sold.where(orders.index < 10)).to_csv(tmp_path / "shop.csv", index=False)
    pd.DataFrame({"order": range(30), "sold": sold[:30]}).to_csv(
        tmp_path / "labels.csv", index=False
    )
    (tmp_path / "shop.yaml").write_text(FILE)
    return tmp_path


def targets(shop):
    table = data.Table.of(problems.load(str(shop / "shop.yaml")), sound=False)
    return list(table.numbers), list(table.target())


def test_rows_whose_truth_came_later_are_learned_from(shop):
    assert targets(shop) == (list(range(30)), ["yes", "no"] * 15)


def test_a_target_that_the_table_has_is_kept(shop):
    labels = pd.read_csv(shop / "labels.csv")
    labels.assign(sold="no").to_csv(shop / "labels.csv", index=False)
    assert targets(shop)[1][:12] == ["yes", "no"] * 5 + ["no", "no"]


@pytest.mark.parametrize("change", [lambda f: f.drop(columns="sold"), lambda f: f.assign(sold="")])
def test_all_targets_may_come_later(shop, change):
    change(pd.read_csv(shop / "shop.csv")).to_csv(shop / "shop.csv", index=False)
    assert targets(shop) == (list(range(30)), ["yes", "no"] * 15)


def test_before_any_label_has_come_the_table_alone_is_learned_from(shop):
    (shop / "labels.csv").unlink()
    assert targets(shop)[0] == list(range(10))


def test_labels_of_another_type_are_one_line(shop):
    pd.read_csv(shop / "shop.csv").assign(sold=1.5).head(10).to_csv(shop / "shop.csv", index=False)
    frame = pd.read_csv(shop / "shop.csv").assign(sold=lambda f: f.sold.where(f.index < 5))
    frame.to_csv(shop / "shop.csv", index=False)
    with pytest.raises(WorkbookError, match="'sold' holds string there, double in the table"):
        targets(shop)


def test_rows_and_labels_without_a_key_are_told_and_have_nothing_to_do_with_each_other(shop):
    for name in ("labels.csv", "shop.csv"):
        frame = pd.read_csv(shop / name)
        frame.assign(order=frame.order.where(frame.index > 1)).to_csv(shop / name, index=False)
    problem = problems.load(str(shop / "shop.yaml"))
    rows = data.reader.read(shop / "shop.csv")
    truth, told = late_labels.of(rows, problem)
    assert truth.notna().sum() == 28 and truth[0] is None
    assert told == ["2 rows without a key: no truth is known of them"]
