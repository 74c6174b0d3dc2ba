//! `assert_shape!`: a shape is held to a snapshot, and the difference told in words.
//!
//! insta keeps the snapshots - in the test's source or in a file beside it -, shows the texts side
//! by side and takes over what is accepted; a text is what people review in a diff. What it cannot
//! know is what a shape is: that stands here.

use std::fmt::Write as _;

use insta::internals::SnapshotContents;
use insta::{Comparator, Settings, Snapshot};

use super::{Captured, CapturedActivity};
use crate::shape::Shape;

/// Holds the shape of an activity to a snapshot.
///
/// The snapshot stands in the source, behind `@`, or in a file named after the test, in the folder
/// `snapshots` beside it; a name may be given first. It is a text with a line for every span, which
/// [`Shape`](crate::shape::Shape) explains.
///
/// ```no_run
/// # use tracing_activity::testing::capture;
/// # use tracing_activity::assert_shape;
/// # fn page() {}
/// let captured = capture(page);
/// assert_shape!(captured.only(), @"
/// request  in shop  {http.request.method, http.route}
///   SELECT products  {id}  x2+
/// ");
/// assert_shape!(captured.only());
/// assert_shape!("the page of a basket", captured.only());
/// ```
///
/// What is different is told in words before insta shows both texts:
///
/// ```text
/// the shape of this activity changed:
/// - `check_for_fraud` was added in `request > place_order`, after `total`, with 2 spans inside
/// - `pay` and `reserve` in `request > place_order` no longer run at the same time
/// ```
///
/// A change that is meant is accepted by `cargo insta review`, or by running the tests with
/// `INSTA_UPDATE=always`, which rewrites files but not sources. A new `assert_shape!(.., @"")`
/// is filled in the same way. On a build server (`CI=1`) insta writes nothing.
///
/// # Panics
/// If the shape differs from the snapshot, or there is none yet.
#[macro_export]
macro_rules! assert_shape {
    ($shape:expr, @$snapshot:literal $(,)?) => {
        $crate::testing::__compare(&$shape, |text| {
            $crate::testing::__insta::assert_snapshot!(text, @$snapshot);
        })
    };
    ($name:expr, $shape:expr $(,)?) => {
        $crate::testing::__compare(&$shape, |text| {
            $crate::testing::__insta::assert_snapshot!($name, text);
        })
    };
    ($shape:expr $(,)?) => {
        $crate::testing::__compare(&$shape, |text| {
            $crate::testing::__insta::assert_snapshot!(text);
        })
    };
}

/// What has a shape, for [`assert_shape!`](crate::assert_shape).
pub trait ToShape {
    /// The shape.
    fn to_shape(&self) -> Shape;
}

impl ToShape for Shape {
    fn to_shape(&self) -> Shape {
        self.clone()
    }
}

impl ToShape for CapturedActivity {
    fn to_shape(&self) -> Shape {
        self.shape.clone()
    }
}

impl ToShape for Captured {
    /// That of the only activity.
    fn to_shape(&self) -> Shape {
        self.only().shape.clone()
    }
}

impl<T: ToShape + ?Sized> ToShape for &T {
    fn to_shape(&self) -> Shape {
        (**self).to_shape()
    }
}

/// Runs insta's assertion on the text of a shape, with words for what is different.
#[doc(hidden)]
pub fn compare(shape: &impl ToShape, assert: impl FnOnce(&str)) {
    let text = shape.to_shape().to_string();
    let mut settings = Settings::clone_current();
    settings.set_omit_expression(true);
    settings.set_comparator(Box::new(InWords));
    settings.bind(|| assert(&text));
}

/// Compares the texts of shapes and says what is different.
#[derive(Debug, Clone)]
struct InWords;

impl Comparator for InWords {
    fn matches(&self, reference: &Snapshot, test: &Snapshot) -> bool {
        let (SnapshotContents::Text(old), SnapshotContents::Text(new)) =
            (reference.contents(), test.contents())
        else {
            return false;
        };
        let (old, new) = (old.to_string(), new.to_string());
        let Some(words) = difference(&old, &new) else { return true };
        eprint!("{words}");
        false
    }

    fn dyn_clone(&self) -> Box<dyn Comparator> {
        Box::new(self.clone())
    }
}

/// The difference of two texts in words; `None` when there is none.
fn difference(old: &str, new: &str) -> Option<String> {
    if old.trim() == new.trim() {
        return None;
    }
    // An empty snapshot is one to be filled in.
    if old.trim().is_empty() {
        return Some(
            "this shape has no snapshot yet; accept it with `cargo insta review`\n".into(),
        );
    }
    let mut text = String::new();
    match (old.parse::<Shape>(), new.parse::<Shape>()) {
        (Ok(old), Ok(new)) => {
            let changes = old.changes(&new);
            if changes.is_empty() {
                return None;
            }
            text.push_str("the shape of this activity changed:\n");
            for change in changes {
                let _ = writeln!(text, "- {change}");
            }
        }
        (Err(error), _) => {
            let _ = writeln!(text, "the snapshot is not the text of a shape: {error}");
        }
        (_, Err(error)) => {
            let _ = writeln!(text, "this shape cannot be read back: {error}");
        }
    }
    text.push_str("If that is meant, accept it with `cargo insta review`.\n");
    Some(text)
}
