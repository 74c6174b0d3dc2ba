//! What `Shape::changes` says of each kind of change.

use tracing_activity::shape::Shape;

const OLD: &str = "
request  in shop  {method, uri}
  SELECT sessions
  place_order  {lines}
    total  {lines}
      SELECT products  {id}  x2+
    pay
      POST pay.example  kind client
    reserve
  INSERT orders
";

/// What is said when `from` becomes `to` in the text above.
fn change(from: &str, to: &str) -> Vec<String> {
    assert!(OLD.contains(from), "{from:?} is not in the text");
    words(OLD, &OLD.replacen(from, to, 1))
}

fn words(old: &str, new: &str) -> Vec<String> {
    let [old, new] = [old, new].map(|text| text.parse::<Shape>().unwrap());
    old.changes(&new)
}

#[test]
fn equal_shapes_need_no_words() {
    assert_eq!(words(OLD, OLD), [""; 0]);
}

#[test]
fn a_span_that_was_added_is_told_with_its_place() {
    assert_eq!(
        change("    pay\n", "    check_for_fraud\n      SELECT orders\n    pay\n"),
        [
            "`check_for_fraud` was added in `request > place_order`, after `total`, with a span inside"
        ]
    );
    assert_eq!(
        change("  SELECT sessions\n", "  limit\n  SELECT sessions\n"),
        ["`limit` was added in `request`, as the first"]
    );
}

#[test]
fn a_span_that_vanished_is_told_with_where_it_was() {
    assert_eq!(change("    reserve\n", ""), ["`reserve` is gone from `request > place_order`"]);
    assert_eq!(
        change("    pay\n      POST pay.example  kind client\n", ""),
        ["`pay` is gone from `request > place_order`, with a span inside"]
    );
}

#[test]
fn a_subtree_that_stands_elsewhere_moved() {
    let pay = "    pay\n      POST pay.example  kind client\n";
    let moved = OLD.replace(pay, "") + "  pay\n    POST pay.example  kind client\n";
    assert_eq!(words(OLD, &moved), ["`pay` moved from `request > place_order` to `request`"]);
    let inward = change("    reserve\n  INSERT orders\n", "    reserve\n      INSERT orders\n");
    assert_eq!(
        inward,
        ["`INSERT orders` moved from `request` to `request > place_order > reserve`"]
    );
}

#[test]
fn a_subtree_that_moved_and_changed_is_told_as_both() {
    let pay = "    pay\n      POST pay.example  kind client\n";
    let moved = OLD.replace(pay, "") + "  pay\n    POST pay.example  kind client  fails: error\n";
    assert_eq!(
        words(OLD, &moved),
        [
            "`pay` moved from `request > place_order` to `request`",
            "`POST pay.example` in `request > pay` now fails: error"
        ]
    );
}

#[test]
fn a_span_around_others_is_told_as_added_and_the_others_as_moved_into_it() {
    let pay = "    pay\n      POST pay.example  kind client\n";
    let wrapped = "    with_retry\n      pay\n        POST pay.example  kind client\n";
    assert_eq!(
        change(pay, wrapped),
        [
            "`pay` moved from `request > place_order` to `request > place_order > with_retry`",
            "`with_retry` was added in `request > place_order`, after `total`, with 2 spans inside"
        ]
    );
    let unwrapped = words(&OLD.replace(pay, wrapped), OLD);
    assert_eq!(
        unwrapped,
        [
            "`pay` moved from `request > place_order > with_retry` to `request > place_order`",
            "`with_retry` is gone from `request > place_order`, with 2 spans inside"
        ]
    );
}

#[test]
fn a_span_that_moved_out_of_one_that_moved_is_told_once() {
    assert_eq!(
        words("root  in shop\n  P\n    C", "root  in shop\n  Q\n    P\n  C"),
        [
            "`C` moved from `root > P` to `root`",
            "`P` moved from `root` to `root > Q`",
            "`Q` was added in `root`, as the first, with a span inside"
        ]
    );
}

#[test]
fn an_error_that_appears_changes_or_goes_is_told_with_its_class() {
    let (fine, failing) = ("    reserve\n", "    reserve  fails: error\n");
    let place = "`reserve` in `request > place_order`";
    assert_eq!(change(fine, failing), [format!("{place} now fails: error")]);
    let failed = OLD.replace(fine, failing);
    assert_eq!(words(&failed, OLD), [format!("{place} no longer fails, it did with error")]);
    assert_eq!(
        words(&failed, &OLD.replace(fine, "    reserve  fails: panic\n")),
        [format!("{place} now fails otherwise: panic, it was error")]
    );
}

#[test]
fn how_often_a_span_runs_is_told_as_once_or_more() {
    assert_eq!(
        change("  INSERT orders", "  INSERT orders  x2+"),
        ["`INSERT orders` in `request` now runs more than once"]
    );
    assert_eq!(
        change("{id}  x2+", "{id}"),
        ["`SELECT products` in `request > place_order > total` now runs only once"]
    );
}

#[test]
fn running_at_the_same_time_is_told_as_it_begins_and_ends() {
    let in_order = "    pay\n      POST pay.example  kind client\n    reserve\n";
    let together =
        "    & at the same time\n      pay\n        POST pay.example  kind client\n      reserve\n";
    let place = "`pay` and `reserve` in `request > place_order`";
    assert_eq!(change(in_order, together), [format!("{place} now run at the same time")]);
    assert_eq!(
        words(&OLD.replace(in_order, together), OLD),
        [format!("{place} no longer run at the same time")]
    );
}

#[test]
fn a_loop_of_several_steps_is_told() {
    let in_order = "    pay\n      POST pay.example  kind client\n    reserve\n";
    let looping = "    * again and again, in any order\n      pay\n        POST pay.example  kind client\n      reserve\n";
    assert_eq!(
        change(in_order, looping),
        ["`pay` and `reserve` in `request > place_order` now run again and again, in any order"]
    );
}

#[test]
fn another_order_is_told_by_what_runs_before_what() {
    let swapped = "  INSERT orders\n".to_owned();
    let new = OLD
        .replace(&swapped, "")
        .replace("  SELECT sessions\n", "  INSERT orders\n  SELECT sessions\n");
    assert_eq!(
        words(OLD, &new),
        ["`INSERT orders` in `request` now runs before `SELECT sessions`"]
    );
}

#[test]
fn fields_are_told_by_name() {
    assert_eq!(
        change("{id}", "{id, shop}"),
        ["`SELECT products` in `request > place_order > total` now declares `shop`"]
    );
    assert_eq!(change("{method, uri}", "{uri}"), ["`request` no longer declares `method`"]);
    assert_eq!(
        change("{method, uri}", "{verb, uri}"),
        ["`request` now declares `verb` and no longer `method`"]
    );
    assert_eq!(
        change("{method, uri}", "{uri, method}"),
        ["`request` declares its fields in another order"]
    );
}

#[test]
fn level_kind_and_target_are_told_with_what_they_were() {
    assert_eq!(
        change("    reserve", "    reserve  debug"),
        ["`reserve` in `request > place_order` is now at the level debug, it was at info"]
    );
    assert_eq!(
        change("kind client", "kind internal"),
        [
            "`POST pay.example` in `request > place_order > pay` now has the kind internal, it was client"
        ]
    );
    assert_eq!(
        change("  INSERT orders", "  INSERT orders  in shop::store"),
        ["`INSERT orders` in `request` is now in the target shop::store, it was in shop"]
    );
}

#[test]
fn a_renamed_root_is_told_and_the_rest_still_compared() {
    assert_eq!(
        words("page  in shop\n  query", "site  in shop\n  query  x2+"),
        ["`site` was `page`", "`query` in `site` now runs more than once"]
    );
}
