//! What is different between two shapes, in words.
//!
//! Spans are matched from the root down: first those whose whole subtrees are equal, then those of
//! the same name. What finds no partner below its own parent is looked for everywhere else, where
//! it counts as moved. What is then left was added, or is gone.

use super::Mark;
use super::tree::Node;

/// A sentence for every change from `old` to `new`; none exactly when they are equal.
pub(super) fn changes(old: &Node, new: &Node) -> Vec<String> {
    let mut changes = Changes::default();
    changes.compare(old, new, &Place::default());
    changes.tell_moves();
    if changes.words.is_empty() && old != new {
        changes.words.push(format!("equal spans below `{}` stand otherwise", new.name));
    }
    changes.words
}

/// The names of the spans around a span, from the root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Place(Vec<String>);

impl Place {
    fn inside(&self, node: &Node) -> Self {
        let mut names = self.0.clone();
        names.push(node.name.clone());
        Self(names)
    }

    fn path(&self) -> String {
        format!("`{}`", self.0.join(" > "))
    }

    /// The span at this place, for a sentence.
    fn name(&self, node: &Node) -> String {
        if self.0.is_empty() { format!("`{}`", node.name) } else { self.names(&[node]) }
    }

    fn names(&self, nodes: &[&Node]) -> String {
        format!("{} in {}", list(nodes.iter().map(|node| node.name.as_str())), self.path())
    }
}

/// A child, and where among its siblings it stands.
#[derive(Debug, Clone, Copy)]
struct Child<'a> {
    node: &'a Node,
    mark: Mark,
    step: usize,
}

/// A span without a partner below its parent.
#[derive(Debug)]
struct Stray<'a> {
    node: &'a Node,
    place: Place,
    /// Where among its siblings it stands, for a sentence.
    among: String,
}

#[derive(Debug, Default)]
struct Changes<'a> {
    words: Vec<String>,
    added: Vec<Stray<'a>>,
    gone: Vec<Stray<'a>>,
    /// Old and new spans of which it is told already that they moved.
    moved: Vec<(&'a Node, &'a Node)>,
}

impl<'a> Changes<'a> {
    /// Compares two spans that are taken for the same one, which stands at `place`.
    fn compare(&mut self, old: &'a Node, new: &'a Node, place: &Place) {
        if old == new {
            return;
        }
        self.compare_span(old, new, place);
        let place = place.inside(new);
        let (before, after) = (children(old), children(new));
        let pairs = partners(&before, &after);
        for (at, child) in before.iter().enumerate() {
            if !pairs.iter().any(|(old, _)| *old == at) {
                let among = String::new();
                self.gone.push(Stray { node: child.node, place: place.clone(), among });
            }
        }
        for (at, child) in after.iter().enumerate() {
            if !pairs.iter().any(|(_, new)| *new == at) {
                let among = among(&after, at);
                self.added.push(Stray { node: child.node, place: place.clone(), among });
            }
        }
        let pairs: Vec<Pair<'a>> =
            pairs.into_iter().map(|(old, new)| (before[old], after[new])).collect();
        for (old, new) in &pairs {
            self.compare(old.node, new.node, &place);
        }
        self.compare_counts(&pairs, &place);
        self.compare_order(&pairs, &place);
    }

    fn compare_span(&mut self, old: &Node, new: &Node, place: &Place) {
        let mut tell = |words: String| self.words.push(format!("{} {words}", place.name(new)));
        if old.name != new.name {
            tell(format!("was `{}`", old.name));
        }
        if old.target != new.target {
            tell(format!("is now in the target {}, it was in {}", new.target, old.target));
        }
        if old.level != new.level {
            let (new, old) = (new.level.as_str(), old.level.as_str());
            tell(format!("is now at the level {new}, it was at {old}"));
        }
        match (old.kind.as_str(), new.kind.as_str()) {
            (old, new) if old == new => {}
            (old, "") => tell(format!("no longer has a kind, it was {old}")),
            ("", new) => tell(format!("now has the kind {new}")),
            (old, new) => tell(format!("now has the kind {new}, it was {old}")),
        }
        match (old.error.as_str(), new.error.as_str()) {
            (old, new) if old == new => {}
            (old, "") => tell(format!("no longer fails, it did with {old}")),
            ("", new) => tell(format!("now fails: {new}")),
            (old, new) => tell(format!("now fails otherwise: {new}, it was {old}")),
        }
        if old.fields != new.fields {
            tell(fields(&old.fields, &new.fields));
        }
    }

    fn compare_counts(&mut self, pairs: &[Pair<'_>], place: &Place) {
        for (old, new) in pairs {
            let name = place.name(new.node);
            match (old.mark, new.mark) {
                (Mark::Once, Mark::Repeated) => {
                    self.words.push(format!("{name} now runs more than once"));
                }
                (Mark::Repeated, Mark::Once) => {
                    self.words.push(format!("{name} now runs only once"));
                }
                _ => {}
            }
        }
    }

    /// What runs at the same time, in a loop, or in another order than before.
    fn compare_order(&mut self, pairs: &[Pair<'_>], place: &Place) {
        for (mark, how) in
            [(Mark::Together, "at the same time"), (Mark::Loop, "again and again, in any order")]
        {
            let now = grouped(pairs, mark, |(_, new)| *new, |(old, _)| *old);
            for nodes in now {
                self.words.push(format!("{} now run {how}", place.names(&nodes)));
            }
            let before = grouped(pairs, mark, |(old, _)| *old, |(_, new)| *new);
            for nodes in before {
                self.words.push(format!("{} no longer run {how}", place.names(&nodes)));
            }
        }
        // By their new order, what stands before something that it stood behind.
        let mut pairs: Vec<&Pair<'_>> = pairs.iter().collect();
        pairs.sort_by_key(|(_, new)| new.step);
        let kept = longest_rising(&pairs.iter().map(|(old, _)| old.step).collect::<Vec<_>>());
        for (at, (old, new)) in pairs.iter().enumerate() {
            if kept.contains(&at) {
                continue;
            }
            let later =
                pairs[at + 1..].iter().find(|it| it.0.step < old.step && it.1.step > new.step);
            let earlier =
                pairs[..at].iter().rfind(|it| it.0.step > old.step && it.1.step < new.step);
            let name = place.name(new.node);
            if let Some((_, later)) = later {
                self.words.push(format!("{name} now runs before `{}`", later.node.name));
            } else if let Some((_, earlier)) = earlier {
                self.words.push(format!("{name} now runs after `{}`", earlier.node.name));
            }
        }
    }

    /// Finds the strays that have only moved, and tells of all.
    fn tell_moves(&mut self) {
        loop {
            let (mut added, mut gone) =
                (std::mem::take(&mut self.added), std::mem::take(&mut self.gone));
            let mut moved = std::mem::take(&mut self.moved);
            gone.retain(|stray| !moved.iter().any(|(old, _)| std::ptr::eq(*old, stray.node)));
            added.retain(|stray| !moved.iter().any(|(_, new)| std::ptr::eq(*new, stray.node)));
            if added.is_empty() && gone.is_empty() {
                return;
            }
            let inside = |strays: &[Stray<'a>]| -> Vec<(&'a Node, Place)> {
                let mut all = Vec::new();
                for stray in strays {
                    collect(stray.node, &stray.place, &mut all);
                }
                all
            };
            let (mut new, mut old) = (inside(&added), inside(&gone));
            // Equal subtrees first, then spans that merely have the same name.
            old.retain(|(node, _)| !moved.iter().any(|(old, _)| std::ptr::eq(*old, *node)));
            new.retain(|(node, _)| !moved.iter().any(|(_, new)| std::ptr::eq(*new, *node)));
            for same in [|a: &Node, b: &Node| a == b, same_span] {
                for stray in &gone {
                    if moved.iter().any(|(old, _)| std::ptr::eq(*old, stray.node)) {
                        continue;
                    }
                    if let Some(at) = new.iter().position(|(node, _)| same(stray.node, node)) {
                        let (node, place) = new.swap_remove(at);
                        self.tell_moved(stray.node, &stray.place, node, &place);
                        moved.push((stray.node, node));
                    }
                }
                for stray in &added {
                    if moved.iter().any(|(_, new)| std::ptr::eq(*new, stray.node)) {
                        continue;
                    }
                    let is_free =
                        |node: &Node| !moved.iter().any(|(old, _)| std::ptr::eq(*old, node));
                    let found =
                        old.iter().position(|(node, _)| is_free(node) && same(node, stray.node));
                    if let Some(at) = found {
                        let (node, place) = old.swap_remove(at);
                        self.tell_moved(node, &place, stray.node, &stray.place);
                        moved.push((node, stray.node));
                    }
                }
            }
            for stray in gone {
                if !moved.iter().any(|(old, _)| std::ptr::eq(*old, stray.node)) {
                    let (name, path) = (&stray.node.name, stray.place.path());
                    self.words.push(format!("`{name}` is gone from {path}{}", below(stray.node)));
                }
            }
            for stray in added {
                if !moved.iter().any(|(_, new)| std::ptr::eq(*new, stray.node)) {
                    let (name, path) = (&stray.node.name, stray.place.path());
                    let (among, below) = (&stray.among, below(stray.node));
                    self.words.push(format!("`{name}` was added in {path}{among}{below}"));
                }
            }
            self.moved = moved;
        }
    }

    fn tell_moved(&mut self, old: &'a Node, from: &Place, new: &'a Node, to: &Place) {
        let (name, from, into) = (&new.name, from.path(), to.path());
        self.words.push(format!("`{name}` moved from {from} to {into}"));
        self.compare(old, new, to);
    }
}

/// The same child before and after.
type Pair<'a> = (Child<'a>, Child<'a>);

fn children(node: &Node) -> Vec<Child<'_>> {
    let steps = node.steps.iter().enumerate();
    steps
        .flat_map(|(step, it)| {
            it.members.iter().map(move |node| Child { node, mark: it.mark, step })
        })
        .collect()
}

/// Which children are the same, as positions: the more alike, the sooner; as far as possible in
/// the order they stand in.
fn partners(old: &[Child<'_>], new: &[Child<'_>]) -> Vec<(usize, usize)> {
    let alike: Vec<Vec<u32>> =
        old.iter().map(|a| new.iter().map(|b| likeness(a, b)).collect()).collect();
    // By positions in both: the most likeness that pairs in order give from there on.
    let mut best = vec![vec![0; new.len() + 1]; old.len() + 1];
    for a in (0..old.len()).rev() {
        for b in (0..new.len()).rev() {
            let paired = if alike[a][b] > 0 { alike[a][b] + best[a + 1][b + 1] } else { 0 };
            best[a][b] = paired.max(best[a + 1][b]).max(best[a][b + 1]);
        }
    }
    let mut pairs: Vec<(usize, usize)> = Vec::new();
    let (mut a, mut b) = (0, 0);
    while a < old.len() && b < new.len() {
        if alike[a][b] > 0 && best[a][b] == alike[a][b] + best[a + 1][b + 1] {
            pairs.push((a, b));
            (a, b) = (a + 1, b + 1);
        } else if best[a][b] == best[a + 1][b] {
            a += 1;
        } else {
            b += 1;
        }
    }
    // What changed its place among its siblings.
    let crossing = (0..old.len()).flat_map(|a| (0..new.len()).map(move |b| (a, b)));
    let mut crossing: Vec<(usize, usize)> = crossing.filter(|(a, b)| alike[*a][*b] > 0).collect();
    crossing.sort_by_key(|(a, b)| std::cmp::Reverse(alike[*a][*b]));
    for (a, b) in crossing {
        if !pairs.iter().any(|pair| pair.0 == a || pair.1 == b) {
            pairs.push((a, b));
        }
    }
    pairs.sort_unstable();
    pairs
}

/// How likely two children are the same one; 0 when they are not.
fn likeness(old: &Child<'_>, new: &Child<'_>) -> u32 {
    let (a, b) = (old.node, new.node);
    match () {
        () if a == b && old.mark == new.mark => 12,
        () if a == b => 10,
        () if same_span(a, b) && a.error == b.error => 5,
        () if same_span(a, b) => 4,
        () if a.name == b.name => 1,
        () => 0,
    }
}

fn same_span(a: &Node, b: &Node) -> bool {
    a.name == b.name && a.target == b.target
}

/// The nodes of `pairs` that share a step of this mark on one side, as given by `here`, and did
/// not all share one of the same mark on the other side.
fn grouped<'a>(
    pairs: &[Pair<'a>],
    mark: Mark,
    here: impl Fn(&Pair<'a>) -> Child<'a>,
    there: impl Fn(&Pair<'a>) -> Child<'a>,
) -> Vec<Vec<&'a Node>> {
    let mut groups = Vec::new();
    let mut steps: Vec<usize> =
        pairs.iter().map(&here).filter(|it| it.mark == mark).map(|it| it.step).collect();
    steps.sort_unstable();
    steps.dedup();
    for step in steps {
        let shared: Vec<&Pair<'a>> = pairs.iter().filter(|it| here(it).step == step).collect();
        let other = there(shared[0]);
        let same = |it: &&Pair<'a>| there(it).step == other.step && there(it).mark == mark;
        if shared.len() > 1 && !shared.iter().all(same) {
            groups.push(shared.into_iter().map(|it| here(it).node).collect());
        }
    }
    groups
}

/// The positions of a longest rising sequence, equal neighbours allowed.
fn longest_rising(numbers: &[usize]) -> Vec<usize> {
    // By position: the length of the longest that ends there, and what stands before it.
    let mut best: Vec<(usize, Option<usize>)> = Vec::with_capacity(numbers.len());
    for (at, number) in numbers.iter().enumerate() {
        let before = (0..at).filter(|it| numbers[*it] <= *number).max_by_key(|it| best[*it].0);
        best.push((before.map_or(1, |it| best[it].0 + 1), before));
    }
    let mut next = (0..numbers.len()).max_by_key(|it| best[*it].0);
    let mut positions = Vec::new();
    while let Some(at) = next {
        positions.push(at);
        next = best[at].1;
    }
    positions
}

/// Every span from `node` down, with its place.
fn collect<'a>(node: &'a Node, place: &Place, all: &mut Vec<(&'a Node, Place)>) {
    all.push((node, place.clone()));
    let inside = place.inside(node);
    for child in children(node) {
        collect(child.node, &inside, all);
    }
}

/// Behind which sibling a child stands.
fn among(siblings: &[Child<'_>], at: usize) -> String {
    let child = siblings[at];
    let together = siblings.iter().enumerate().filter(|(n, it)| *n != at && it.step == child.step);
    let others: Vec<&str> = together.map(|(_, it)| it.node.name.as_str()).collect();
    match siblings.iter().rfind(|it| it.step < child.step) {
        _ if !others.is_empty() => format!(", beside {}", list(others.into_iter())),
        Some(before) => format!(", after `{}`", before.node.name),
        None if siblings.len() > 1 => ", as the first".to_owned(),
        None => String::new(),
    }
}

fn below(node: &Node) -> String {
    fn count(node: &Node) -> usize {
        children(node).iter().map(|child| 1 + count(child.node)).sum()
    }
    match count(node) {
        0 => String::new(),
        1 => ", with a span inside".to_owned(),
        spans => format!(", with {spans} spans inside"),
    }
}

fn fields(old: &[String], new: &[String]) -> String {
    let missing = |from: &[String], other: &[String]| -> Vec<String> {
        from.iter().filter(|field| !other.contains(field)).cloned().collect()
    };
    let (added, gone) = (missing(new, old), missing(old, new));
    let names = |names: &[String]| list(names.iter().map(String::as_str));
    match (added.is_empty(), gone.is_empty()) {
        (true, true) => "declares its fields in another order".to_owned(),
        (false, true) => format!("now declares {}", names(&added)),
        (true, false) => format!("no longer declares {}", names(&gone)),
        (false, false) => format!("now declares {} and no longer {}", names(&added), names(&gone)),
    }
}

/// Names in a row: `a`, `b` and `c`.
fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    match names.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
        None => String::new(),
    }
}
