//! `cargo xtask shapes`: how many code paths a hundred thousand requests take, and which of them a
//! deploy adds.
//!
//! The demo's customers visit the real shop three times, over HTTP: deploy A, deploy B, which checks
//! every order for fraud, and deploy C, which is A but for one path. What is counted comes from the
//! layer in the shop.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use tracing_activity::shape::Shape;

use crate::demo::ledger::Ledger;
use crate::demo::plan::{self, Scale};
use crate::demo::shop::{self, Deploy, Shop};
use crate::demo::{progress, traffic};

/// Counts the code paths of the shop's deploys
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Requests to send in all, over three deploys
    #[arg(long, default_value_t = 120_000, value_parser = clap::value_parser!(u32).range(3..=3_000_000))]
    requests: u32,
    /// Seconds over which the customers of each deploy come
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
    /// Write the figures to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Print the text of every path, not only of the new ones
    #[arg(long)]
    all: bool,
    /// Draws other customers
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Requests below which a path that is missing elsewhere may be missing by chance: of ten expected,
/// none comes in one case out of twenty thousand.
const RARE: u64 = 10;

/// More paths than the shop can have.
const MANY: usize = 100;

const DEPLOYS: [&str; 3] = ["a", "b", "c"];

/// What took one path.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Taken {
    requests: u64,
    request: String,
    text: String,
}

impl Taken {
    /// Whether chance decides if a deploy shows this path: hardly anybody took it, or the client
    /// left in the middle, and how far the shop had come by then is a matter of its load.
    fn by_chance(&self) -> bool {
        self.requests < RARE || self.request.ends_with(" 0")
    }
}

/// The paths of a deploy, by their hash.
type Paths = BTreeMap<String, Taken>;

pub(crate) fn run(args: &Args) -> Result<()> {
    let began = Instant::now();
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no workspace")?;
    eprintln!("building the shop");
    let executable = shop::build(workspace)?;
    let folder = std::env::temp_dir().join(format!("shop-shapes-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let driven = drive(args, &executable, &folder);
    std::fs::remove_dir_all(&folder).ok();
    let [a, b, c] = driven?;

    print_paths("deploy a", &a, args.all);
    let counts = [a.len(), b.len(), c.len()];
    let (against_b, against_c) = (compare("b", &a, &b)?, compare("c", &a, &c)?);
    let figures = serde_json::json!({
        "requests": [requests(&a), requests(&b), requests(&c)],
        "paths": counts,
        "b_against_a": against_b,
        "c_against_a": against_c,
        "seconds": began.elapsed().as_secs(),
        "deploys": { "a": &a, "b": &b, "c": &c },
    });
    if let Some(path) = &args.json {
        std::fs::write(path, format!("{figures:#}\n"))
            .with_context(|| format!("{} cannot be written", path.display()))?;
    }
    let all = requests(&a) + requests(&b) + requests(&c);
    println!("\n{all} requests, {:.0} s", began.elapsed().as_secs_f64());
    verdict(&counts, &against_c)
}

fn requests(paths: &Paths) -> u64 {
    paths.values().map(|taken| taken.requests).sum()
}

/// Lets the same customers visit each deploy.
fn drive(args: &Args, executable: &Path, folder: &Path) -> Result<[Paths; 3]> {
    let runtime = tokio::runtime::Runtime::new()?;
    let each = args.requests / 3;
    let progress = progress(u64::from(each) * 3);
    let mut paths = Vec::new();
    for letter in DEPLOYS {
        let file = folder.join(letter);
        let environment =
            [("ACTIVITY_SAMPLE", "errors".to_owned()), ("RUST_BACKTRACE", "0".to_owned())];
        let deploy =
            Deploy { letter, seed: args.seed, environment: &environment, shapes: Some(&file) };
        let shop = Shop::start(executable, &deploy)?;
        progress.set_message(format!("deploy {letter}"));
        let visits = plan::visits(Scale {
            requests: each as usize,
            spread: Duration::from_secs(u64::from(args.seconds)),
            seed: args.seed,
        });
        let sent = runtime
            .block_on(traffic::drive(visits, shop.address, &Ledger::default(), &progress))
            .with_context(|| format!("a request failed; the shop said:\n{}", shop.words()))?;
        shop.stop()?;
        let counted: Paths = serde_json::from_slice(&std::fs::read(&file)?)?;
        if requests(&counted) != sent {
            bail!(
                "{sent} requests were sent to deploy {letter} and {} counted",
                requests(&counted)
            );
        }
        paths.push(counted);
    }
    progress.finish();
    paths.try_into().map_err(|_| anyhow::anyhow!("not three deploys"))
}

fn print_paths(title: &str, paths: &Paths, texts: bool) {
    println!("{title}: {} requests, {} paths", requests(paths), paths.len());
    for (hash, taken) in sorted(paths) {
        println!("{hash}  {:>7}  {}", taken.requests, taken.request);
        if texts {
            println!("{}\n", indented(&taken.text));
        }
    }
}

/// The paths, the most taken first.
fn sorted(paths: &Paths) -> Vec<(&String, &Taken)> {
    let mut sorted: Vec<_> = paths.iter().collect();
    sorted.sort_by_key(|(_, taken)| std::cmp::Reverse(taken.requests));
    sorted
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

/// What a deploy has that the one before has not.
#[derive(Debug, Serialize)]
struct Comparison {
    new: usize,
    vanished: usize,
    /// Paths that only one of the two took, and that may be by chance.
    by_chance: usize,
    /// The changes in words, and how many requests took paths that have them.
    changes: BTreeMap<String, u64>,
}

/// Tells which paths are new and which vanished, and what that means in words.
fn compare(letter: &str, old: &Paths, new: &Paths) -> Result<Comparison> {
    let only = |here: &Paths, there: &Paths| -> (Paths, Paths) {
        let only = here.iter().filter(|(hash, _)| !there.contains_key(*hash));
        only.map(|(hash, taken)| (hash.clone(), taken.clone()))
            .partition(|(_, taken)| !taken.by_chance())
    };
    let ((fresh, new_by_chance), (vanished, gone_by_chance)) = (only(new, old), only(old, new));
    let (added, gone) = (fresh.len(), vanished.len());
    let by_chance = new_by_chance.len() + gone_by_chance.len();
    let mut changes = BTreeMap::new();
    println!(
        "\ndeploy {letter}: {} requests, {} paths; {added} new, {gone} vanished, {by_chance} perhaps by chance",
        requests(new),
        new.len()
    );
    for (hash, taken) in sorted(&fresh) {
        let words = nearest(&taken.text, old)?;
        println!("new           {hash}  {:>7}  {}", taken.requests, taken.request);
        for change in &words {
            println!("              {change}");
        }
        *changes.entry(words.join("; ")).or_default() += taken.requests;
    }
    for (word, paths) in [
        ("vanished", &vanished),
        ("chance, new", &new_by_chance),
        ("chance, gone", &gone_by_chance),
    ] {
        for (hash, taken) in sorted(paths) {
            println!("{word:<14}{hash}  {:>7}  {}", taken.requests, taken.request);
        }
    }
    Ok(Comparison { new: added, vanished: gone, by_chance, changes })
}

/// What is different from the most similar path of the old deploy, in words.
fn nearest(text: &str, old: &Paths) -> Result<Vec<String>> {
    let Some(nearest) = old.values().min_by_key(|taken| distance(&taken.text, text)) else {
        return Ok(Vec::new());
    };
    Ok(nearest.text.parse::<Shape>()?.changes(&text.parse()?))
}

/// How many lines only one of two texts has.
fn distance(one: &str, other: &str) -> u64 {
    let mut lines: BTreeMap<&str, i64> = BTreeMap::new();
    one.lines().for_each(|line| *lines.entry(line).or_default() += 1);
    other.lines().for_each(|line| *lines.entry(line).or_default() -= 1);
    lines.values().map(|count| count.unsigned_abs()).sum()
}

/// What must hold for the hash to be of use: few paths, and of a deploy that adds one, that one.
fn verdict(paths: &[usize; 3], c: &Comparison) -> Result<()> {
    if let Some(many) = paths.iter().find(|paths| **paths > MANY) {
        bail!("{many} paths: some value, count or chance shows in the hash");
    }
    let expected =
        "`SELECT ratings` was added in `HTTP request > recommend`, after `SELECT products`";
    let changes: Vec<&str> = c.changes.keys().map(String::as_str).collect();
    if c.new != 1 || c.vanished != 1 || changes != [expected] {
        bail!(
            "deploy c changes one path: 1 new and 1 vanished were expected, and {} and {} are: {changes:#?}",
            c.new,
            c.vanished
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(texts: &[(&str, &str, u64)]) -> Paths {
        let taken = |text: &str, requests| Taken {
            requests,
            request: "GET / 200".to_owned(),
            text: text.to_owned(),
        };
        texts.iter().map(|(hash, text, n)| ((*hash).to_owned(), taken(text, *n))).collect()
    }

    #[test]
    fn a_path_is_new_when_the_other_deploy_never_took_it_and_this_one_often() {
        let old = paths(&[("1", "page", 100), ("2", "page\n  query", 50), ("3", "gone", 3)]);
        let new = paths(&[("1", "page", 90), ("4", "page\n  query\n  mail", 60), ("5", "rare", 9)]);
        let found = compare("b", &old, &new).unwrap();
        assert_eq!((found.new, found.vanished, found.by_chance), (1, 1, 2));
        let expected = ("`mail` was added in `page`, after `query`".to_owned(), 60);
        assert_eq!(found.changes.into_iter().collect::<Vec<_>>(), [expected]);
    }

    #[test]
    fn a_path_of_clients_who_left_is_neither_new_nor_vanished() {
        let left = |hash: &str| {
            let mut paths = paths(&[(hash, "page\n  query", 50), ("1", "page", 100)]);
            paths.get_mut(hash).unwrap().request = "POST /shipping/quote 0".to_owned();
            paths
        };
        let found = compare("b", &left("2"), &left("3")).unwrap();
        assert_eq!((found.new, found.vanished, found.by_chance), (0, 0, 2));
    }

    #[test]
    fn too_many_paths_and_other_changes_than_the_one_meant_are_errors() {
        let change =
            "`SELECT ratings` was added in `HTTP request > recommend`, after `SELECT products`";
        let found = |changes: &[&str]| Comparison {
            new: changes.len(),
            vanished: 1,
            by_chance: 3,
            changes: changes.iter().map(|it| ((*it).to_owned(), 20)).collect(),
        };
        assert!(verdict(&[40, 45, 41], &found(&[change])).is_ok());
        assert!(verdict(&[40, 4000, 41], &found(&[change])).is_err());
        assert!(verdict(&[40, 45, 41], &found(&[])).is_err());
        assert!(verdict(&[40, 45, 41], &found(&[change, "another"])).is_err());
    }
}
